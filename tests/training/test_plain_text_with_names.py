"""Plain text as training data: which names are taken, what leaves a sentence out, what prompts show of them."""

from __future__ import annotations

import lzma
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from retrieveall.types import Entity, Knowledge, KnownEntity, Sentence

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.syspath_prepend(str(SCRIPTS / "mini"))
    yield
    for name in ("positives", "negatives", "prepare", "prose_names"):
        sys.modules.pop(name, None)


def known(text: str, mention: str, language: str, label: str = "LOC") -> KnownEntity:
    start = text.index(mention)
    return KnownEntity(start, start + len(mention), mention, {language: {label: 5}})


def write_panx(folder: Path, language: str, rows: list[list[tuple[str, str]]]) -> None:
    (folder / language).mkdir(parents=True)
    text = "\n\n".join("\n".join(f"{language}:{word}\t{tag}" for word, tag in row) for row in rows)
    (folder / language / "train.tsv").write_text(text + "\n", encoding="utf-8")


def test_a_name_that_is_also_a_word_is_not_one(tmp_path: Path) -> None:
    from positives import names_of  # type: ignore[import-not-found]

    paris = [[("in", "O"), ("Paris", "B-LOC")]] * 3
    mixed = [[("Mai", "B-PER")]] * 3 + [[("im", "O"), ("Mai", "O")]] * 4
    seldom = [[("Ulm", "B-LOC")]] * 2
    people = [[("Anna", "B-PER"), (name, "I-PER")] for name in ("Karenina", "Seghers", "Freud", "German", "Netrebko")]
    write_panx(tmp_path, "de", [*paris, *mixed, *seldom, *people])
    names = names_of("de", tmp_path)
    assert names.labels == {"Paris": "LOC"}
    assert names.given == {"Anna"}


@pytest.mark.parametrize(
    ("language", "text", "mention", "given", "expected"),
    [
        ("en", "Why did Anna Karenina leave Paris?", "Paris", "Anna", [("Anna Karenina", "PER"), ("Paris", "LOC")]),
        ("ja", "昨日、トム・クルーズがパリに来た。", "パリ", "トム", [("トム・クルーズ", "PER"), ("パリ", "LOC")]),
        ("zh", "汤姆·汉克斯在巴黎。", "巴黎", "汤姆", [("汤姆·汉克斯", "PER"), ("巴黎", "LOC")]),
    ],
)
def test_known_mentions_and_people_by_their_given_names(
    language: str, text: str, mention: str, given: str, expected: list[tuple[str, str]]
) -> None:
    from negatives import Counts  # type: ignore[import-not-found]
    from positives import Names, find_names

    counts = Counts(inner=Counter({"Anna": 9, "Paris": 9}))
    names = Names({mention: "LOC"}, frozenset({given}))
    found = find_names(text, [known(text, mention, language)], language, counts, names)
    assert [(text[e.start : e.end], e.label) for e in found] == expected


def test_a_part_of_a_longer_katakana_word_is_no_name() -> None:
    from negatives import Counts
    from positives import Names, find_names

    text = "スイッチを押した。"
    assert not find_names(text, [known(text, "スイ", "ja")], "ja", Counts(), Names({"スイ": "LOC"}))


@pytest.mark.parametrize(
    ("language", "text", "mention", "taken"),
    [
        ("zh", "我住在巴黎的北边。", "巴黎", True),
        ("zh", "我住在巴黎和柏林。", "巴黎", False),  # 柏林 would go unlabelled
        ("zh", "他是巴黎人，我也是。", "巴黎", False),
        ("ja", "私はパリに住んでいます。", "パリ", True),
        ("ja", "私はパリとベルリンに住んでいます。", "パリ", False),
        ("ja", "私はパリ人ではありません。", "パリ", False),
    ],
)
def test_a_sentence_is_taken_only_if_all_of_its_names_are_known(
    language: str, text: str, mention: str, taken: bool
) -> None:
    from negatives import Counts
    from positives import Names, labelled, rest_rule

    names = Names({mention: "LOC"})
    accept = rest_rule(language, Counts(), Counter(), names)
    base = SimpleNamespace(retrieve=lambda *_, **__: [Knowledge(entities=(known(text, mention, language),))])
    rows = list(labelled([text], base, accept, language, Counts(), names))
    assert [row[0] for row in rows] == ([text] if taken else [])


def test_no_name_fills_the_data_and_none_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    import positives

    monkeypatch.setattr(positives, "vary", lambda text, *_: text.rstrip("."))
    lines = [f"The number {i} bus goes to the town of Paris." for i in range(100)]
    rows = list(
        positives.select(
            lines,
            lambda texts: ((t, [Entity(len(t) - 6, len(t) - 1, "LOC", "Paris")]) for t in texts),
            "en", 50, random.Random(1),
        )
    )  # fmt: skip
    assert len(rows) == positives.MOST_PER_NAME
    assert all(e.text == "Paris" == row.text[e.start : e.end] for row in rows for e in row.entities)


def test_what_is_trained_on_is_not_measured_on(tmp_path: Path) -> None:
    from positives import training_lines

    from prose_names import lines_with_names  # type: ignore[import-not-found]

    lines = [f"line {i % 7} of Paris" for i in range(20)]
    path = tmp_path / "en.txt.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    knowledge = SimpleNamespace(known_entities=lambda text, partial_matches: (known(text, "Paris", "en"),))
    model = SimpleNamespace(knowledge=knowledge)
    measured = {text for text, _ in lines_with_names(model, path, "en")}
    assert measured
    assert not measured & set(training_lines(lines))
    assert training_lines(["a", "b", "c", "b"]) == ["b"]


def test_half_of_the_names_of_plain_text_are_not_shown() -> None:
    from prepare import hide_half  # type: ignore[import-not-found]

    text = "Paris"
    sentence = Sentence(text, (Entity(0, 5, "LOC", text),), "en")
    found = Knowledge(entities=(known(text, text, "en"),))
    rng = random.Random(1)
    shown = sum(bool(hide_half(sentence, found, rng).entities) for _ in range(400))
    assert 160 < shown < 240
    elsewhere = Sentence(text, (), "en")
    assert hide_half(elsewhere, found, rng).entities
