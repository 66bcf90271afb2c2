"""JSONL in and out, CoNLL out: round trips, whole files or none, and bad input."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.data import read_corpus, segment, write_conll, write_jsonl
from retrieveall.data.files import ByteSource
from retrieveall.data.formats import Reading, Source, by_name
from retrieveall.errors import DataError
from retrieveall.types import Entity, Sentence

PIECES = ["Köln", "北京", "大学", "👩🏻‍🚀", ".", "שלום", "e\u0301", "x1"]


@st.composite
def sentences(draw: st.DrawFn, separators: str, language: str) -> Sentence:
    """A text of known pieces, some of them entities."""
    text, entities = "", []
    for piece, label, space in draw(
        st.lists(
            st.tuples(st.sampled_from(PIECES), st.sampled_from(["", "PER", "LOC"]), st.sampled_from(separators)),
            min_size=1,
            max_size=6,
        )
    ):
        if label:
            entities.append(Entity(len(text), len(text) + len(piece), label, piece))
        text += piece + space
    return Sentence(text, tuple(entities), language, "x-1")


class Held(ByteSource):
    """A file that is only in memory."""

    def __init__(self, content: str) -> None:
        super().__init__(Path("x.jsonl"))
        self._stream = io.BytesIO(content.encode())
        self.grow()


def read_all(content: str) -> list[Sentence]:
    source = Source(Path("x.jsonl"))
    source.bytes = Held(content)
    return [item.sentence for item in by_name("jsonl").read(source, Reading(stem="x"))]


def jsonl(line: str) -> Sentence:
    [sentence] = read_all(line)
    return sentence


@settings(max_examples=100, deadline=None)
@given(st.lists(sentences(" \n\0\u2028", "de"), min_size=1, max_size=3))
def test_jsonl_round_trip(given_sentences: list[Sentence]) -> None:
    stream = io.StringIO()
    assert write_jsonl(given_sentences, stream) == len(given_sentences)
    assert read_all(stream.getvalue()) == given_sentences


@settings(max_examples=100, deadline=None)
@given(sentences(" ", "zh"), st.sampled_from(["iob2", "iob1", "bioes"]))
def test_chinese_conll_round_trip(tmp_path_factory: pytest.TempPathFactory, sentence: Sentence, scheme: str) -> None:
    path = tmp_path_factory.mktemp("conll") / "x.tsv"
    assert write_conll([sentence], path, scheme) == 1  # type: ignore[arg-type]
    [back] = read_corpus(path, language="zh")
    assert (back.text, back.entities) == (sentence.text, sentence.entities)


def test_conll_holds_the_words_of_segment() -> None:
    text = "Angela Merkel, 北京."
    stream = io.StringIO()
    write_conll([Sentence(text, (Entity(0, 13, "PER"), Entity(15, 17, "LOC"))), Sentence(" ")], stream)
    rows = [line.split("\t") for line in stream.getvalue().splitlines() if line]
    assert [row[0] for row in rows] == [word.text for word in segment(text)]
    assert [row[1] for row in rows] == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]


def test_conll_refuses_an_entity_that_cuts_a_word(tmp_path: Path) -> None:
    target = tmp_path / "x.tsv"
    with pytest.raises(DataError, match="'s-1': expected entities that begin and end with a word, got 'Köl'"):
        write_conll([Sentence("Köln", (Entity(0, 3, "LOC"),), "de", "s-1")], target)
    assert list(tmp_path.iterdir()) == []


def test_defaults_of_jsonl() -> None:
    assert jsonl('{"text": "a", "other": 1}') == Sentence("a", (), None, "x-1")
    assert jsonl('{"text": "a", "id": 7}').id == "7"
    line = {
        "text": "ab cd",
        "entities": [
            {"start": 3, "end": 5, "label": "B"},
            {"start": 0, "end": 2, "label": "A", "text": "ab"},
        ],
        "language": "zh-Hant",
        "id": "mine",
    }
    assert jsonl(json.dumps(line)) == Sentence(
        "ab cd", (Entity(0, 2, "A", "ab"), Entity(3, 5, "B", "cd")), "zh-Hant", "mine"
    )


def entity(**changes: object) -> str:
    return json.dumps({"text": "äbc", "entities": [{"start": 0, "end": 2, "label": "A"} | changes]})


BAD = {
    "not JSON": ('{"text" "a"}', "invalid JSON"),
    "cut off": ('{"text": "a"', "truncated"),
    "not an object": ("[1]", "got a list"),
    "no text": ("{}", 'expected the key "text"'),
    "text not a string": ('{"text": 1}', '"text" as a string, got a number'),
    "surrogate": ('{"text": "a\\ud800"}', "lone surrogate"),
    "deep nesting": ('{"text": ' + "[" * 200_000, "nested too deeply"),
    "huge number": ('{"text": ' + "1" * 5000 + "}", "digits"),
    "entities not a list": ('{"text": "a", "entities": {}}', '"entities" as a list, got an object'),
    "entity not an object": ('{"text": "a", "entities": [[0, 1]]}', "got a list"),
    "unknown annotation": ('{"text": "a", "other": [1]}', "'other', of a format that is not known"),
    "end outside": (entity(end=4), "length of the text, got start 0 and end 4"),
    "negative start": (entity(start=-1), "got start -1"),
    "empty span": (entity(start=2), "got start 2 and end 2"),
    "boolean offset": (entity(start=False), '"start" as an integer, got true or false'),
    "float offset": (entity(end=2.0), '"end" as an integer, got a number'),
    "no label": ('{"text": "a", "entities": [{"start": 0, "end": 1}]}', 'expected the key "label"'),
    "label with a slash": (entity(label="../x"), "expected a label"),
    "text of another span": (entity(start=1, end=3, text="äb"), "code points, not bytes"),
    "bad language": ('{"text": "a", "language": "../x"}', "language identifier"),
    "null text": ('{"text": null}', "got null"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_bad_lines_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine", "entities": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        list(read_corpus(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)


def test_a_surrogate_is_not_written() -> None:
    with pytest.raises(DataError, match="lone surrogate"):
        write_jsonl([Sentence("a\ud800")], io.StringIO())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.jsonl"
    write_jsonl([Sentence("old")], target)
    before = target.read_bytes()

    def broken() -> Iterator[Sentence]:
        yield Sentence("new")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"x\.jsonl: cannot be written \(No space left on device\)"):
        write_jsonl(broken(), target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(DataError, match="cannot be written"):
        write_jsonl([], tmp_path / "no" / "folder.jsonl")


def test_a_korean_name_before_its_particle_is_written_with_the_particle_apart(tmp_path: Path) -> None:
    text = "세종대왕은 New York에서 일했다."
    spans = [(0, 4, "PER"), (6, 14, "LOC")]
    sentence = Sentence(text, tuple(Entity(*span, text[span[0] : span[1]]) for span in spans), "ko", "s-1")
    write_conll([sentence, Sentence("세종대왕은 왔다.", (), "ko", "s-2")], tmp_path / "ko.tsv")
    lines = (tmp_path / "ko.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[:5] == ["세종대왕\tB-PER", "은\tO", "New\tB-LOC", "York\tI-LOC", "에서\tO"]
    assert "세종대왕은\tO" in lines  # without an entity, words stay whole
