"""The written answer: every gold answer reads back as the same spans, and nothing that is written breaks the reader."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.answers import ParsedAnswer, parse_answer, shown_text, write_answer
from retrieveall.answers.format import Mentions
from retrieveall.data import segment
from retrieveall.types import Entity

LABELS = ("PER", "ORG", "LOC")
PIECES = st.sampled_from(
    [*"aab.'-O\n\t\r\x00\u200b\u200d\xad\u3000 ", " ", " ", "a a", "New", "York", "PER ", "北", "京", "e\u0301", "é",
     "한", "\u1112\u1161\u11ab", "👩🏽‍🚀", "\ud83d", "שלום", "\u202e", "ไทย", "O a\n", "\nPER x"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=24).map("".join)


def entity(text: str, surface: str, label: str, occurrence: int = 0) -> Entity:
    start = -1
    for _ in range(occurrence + 1):
        start = text.index(surface, start + 1)
    return Entity(start, start + len(surface), label, surface)


@st.composite
def sentences(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    """A text and entities of whole words, often with the same words elsewhere."""
    text = draw(TEXTS)
    words = segment(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(words)), max_size=8, unique=True)))
    found = []
    for first, last in zip(cuts[::2], cuts[1::2], strict=False):
        start, end = words[first].start, words[last - 1].end
        found.append(Entity(start, end, draw(st.sampled_from(LABELS)), text[start:end]))
    return text, found


class TestForm:
    def test_one_line_an_entity(self) -> None:
        text = "Ada Lovelace lived in London."
        answer = write_answer(text, [entity(text, "London", "LOC"), entity(text, "Ada Lovelace", "PER")])
        assert answer == "PER Ada Lovelace\nLOC London"

    def test_no_entity_is_an_empty_answer(self) -> None:
        assert write_answer("Nothing here.", []) == ""
        assert parse_answer("", "Nothing here.", LABELS) == ParsedAnswer()

    def test_words_are_written_as_they_are_shown(self) -> None:
        text = "the\u200b  «New\n\tYork» 北京"
        found = [entity(text, "New\n\tYork", "LOC"), entity(text, "北京", "LOC")]
        assert write_answer(text, found) == "LOC New York\nLOC 北京"
        assert write_answer(text, found, "always") == "LOC New York\nLOC 北 京"

    def test_an_occurrence_that_is_no_entity_is_passed_over(self) -> None:
        text = "the Apple pie of Apple"
        assert write_answer(text, [entity(text, "Apple", "ORG", 1)]) == "O Apple\nORG Apple"
        assert write_answer(text, [entity(text, "Apple", "ORG", 0)]) == "ORG Apple"

    @pytest.mark.parametrize(
        ("text", "surfaces"),
        [
            ("Paris Hilton in Paris", [("Paris Hilton", "PER", 0), ("Paris", "LOC", 1)]),
            ("Paris in Paris Hilton", [("Paris", "LOC", 0), ("Paris Hilton", "PER", 0)]),
            ("Bonn Bonn Bonn", [("Bonn", "LOC", 0), ("Bonn", "ORG", 1), ("Bonn", "PER", 2)]),
            ("Ulmer Ulm", [("Ulm", "LOC", 1)]),
            ("a a a b a a", [("a a", "ORG", 1), ("a", "LOC", 3)]),
            ("北京人在北京大学", [("北京大学", "ORG", 0)]),
        ],
    )
    def test_repeats_and_parts_of_longer_names(self, text: str, surfaces: list[tuple[str, str, int]]) -> None:
        gold = [entity(text, *each) for each in surfaces]
        parsed = parse_answer(write_answer(text, gold), text, LABELS)
        assert parsed.spans == tuple((each.start, each.end, each.label) for each in gold)

    def test_an_entity_inside_a_word_takes_the_word(self) -> None:
        assert write_answer("서울에서 왔다", [Entity(0, 2, "LOC")]) == "LOC 서울에서"

    def test_lines_point_at_the_lines_of_the_answer(self) -> None:
        parsed = parse_answer("O Apple\n???\nORG Apple\n\nLOC Rome", "Apple, Apple, Rome", LABELS)
        assert (parsed.spans, parsed.lines) == (((7, 12, "ORG"), (14, 18, "LOC")), (2, 4))
        assert parsed.malformed == 2


@settings(max_examples=400, deadline=None, derandomize=True)
@given(case=sentences(), spacing=st.sampled_from(["as_is", "always"]))
def test_every_gold_answer_reads_back(case: tuple[str, list[Entity]], spacing: str) -> None:
    text, gold = case
    answer = write_answer(text, gold, spacing)
    parsed = parse_answer(answer, text, LABELS)
    assert parsed.spans == tuple((each.start, each.end, each.label) for each in gold)
    assert (parsed.malformed, parsed.invented, parsed.unknown) == (0, 0, 0)
    lines = answer.split("\n")
    assert [lines[number].partition(" ")[0] for number in parsed.lines] == [each.label for each in gold]
    # A tokenizer that normalizes changes nothing of an answer (but where a bound of segmentation cuts a cluster).
    assert unicodedata.normalize("NFC", answer) == answer


class TestReading:
    TEXT = "Ada met Ada in Rome"

    @pytest.mark.parametrize(
        ("answer", "spans", "counts"),
        [
            ("PER Ada\nPER Ada\nPER Ada", [(0, 3), (8, 11)], (0, 1, 0)),
            ("LOC Rome\nPER Ada", [(0, 3), (15, 19)], (0, 0, 0)),
            ("PER Bob\nPER Bob", [], (0, 2, 0)),
            ("GOD Ada\nPER Ada", [(8, 11)], (0, 0, 1)),
            ("PER\nLOC  \nAda", [], (3, 0, 0)),
            ("LOC Rom", [(15, 19)], (0, 0, 0)),
            (" PER Ada \r\n", [(0, 3)], (0, 0, 0)),
            ("O Ada\nO Bob", [], (0, 1, 0)),
        ],
        ids=[
            "more often",
            "backwards",
            "invented",
            "unknown label",
            "malformed",
            "half a word",
            "blanks",
            "passed over",
        ],
    )
    def test_what_no_grammar_held(self, answer: str, spans: list[tuple[int, int]], counts: tuple[int, ...]) -> None:
        parsed = parse_answer(answer, self.TEXT, LABELS)
        assert [span[:2] for span in parsed.spans] == spans
        assert (parsed.malformed, parsed.invented, parsed.unknown) == counts

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(text=TEXTS, answer=st.one_of(TEXTS, st.lists(st.sampled_from([*LABELS, "O", "X", "\n", " ", "a", "New", "é"])
           ).map("".join)))  # fmt: skip
    def test_any_answer_about_any_text(self, text: str, answer: str) -> None:
        parsed = parse_answer(answer, text, LABELS)
        position = 0
        words = segment(text)
        for start, end, label in parsed.spans:
            assert position <= start < end
            assert start in {word.start for word in words}
            assert end in {word.end for word in words}
            assert label in LABELS
            position = end
        assert len(parsed.lines) == len(parsed.spans) <= len(answer.split("\n"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.one_of(TEXTS, st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=30).map("".join)))
def test_what_is_shown_has_the_same_words_at_the_same_places(text: str) -> None:
    shown = shown_text(text)
    assert len(shown) == len(text)
    assert [(word.start, word.end) for word in segment(shown)] == [(word.start, word.end) for word in segment(text)]
    shown.encode()  # no surrogate is left
    assert not set(shown) & set("\n\r\t\x00\x1c\x85\u2028\u3000")
    assert Mentions(text).words == [(word.start, word.end) for word in segment(text)]
