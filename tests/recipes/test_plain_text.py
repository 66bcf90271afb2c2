"""Plain text as training data: which names are taken, and what leaves a sentence out."""

from __future__ import annotations

import lzma
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.corpora import Lines, Sentences
from recipes.mini.plain_text import CASED, Counts, word_list
from recipes.mini.positives import Names, find_names, labelled, names_of, select, training_lines
from recipes.mini.recipe import Settings
from recipes.mini.signs import has_no_name, rest_has_no_name
from recipes.settings import read_settings
from retrieveall.types import Entity, Knowledge, KnownEntity

RECIPE = Path(__file__).parents[2] / "recipes" / "mini" / "recipe.yaml"


def known(text: str, mention: str, language: str, label: str = "LOC") -> KnownEntity:
    start = text.index(mention)
    return KnownEntity(start, start + len(mention), mention, {language: {label: 5}})


def write_panx(folder: Path, language: str, rows: list[list[tuple[str, str]]]) -> None:
    (folder / language).mkdir(parents=True)
    text = "\n\n".join("\n".join(f"{language}:{word}\t{tag}" for word, tag in row) for row in rows)
    (folder / language / "train.tsv").write_text(text + "\n", encoding="utf-8")


def test_a_name_that_is_also_a_word_is_not_one(tmp_path: Path) -> None:
    paris = [[("in", "O"), ("Paris", "B-LOC")]] * 3
    mixed = [[("Mai", "B-PER")]] * 3 + [[("im", "O"), ("Mai", "O")]] * 4
    seldom = [[("Ulm", "B-LOC")]] * 2
    people = [[("Anna", "B-PER"), (name, "I-PER")] for name in ("Karenina", "Seghers", "Freud", "German", "Netrebko")]
    write_panx(tmp_path, "de", [*paris, *mixed, *seldom, *people])
    names = names_of("de", Sentences(tmp_path, "train", ("de",)).of("de"))
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
    counts = Counts(inner=Counter({"Anna": 9, "Paris": 9}))
    names = Names({mention: "LOC"}, frozenset({given}))
    found = find_names(text, [known(text, mention, language)], language, counts, names)
    assert [(text[e.start : e.end], e.label) for e in found] == expected


def test_a_part_of_a_longer_katakana_word_is_no_name() -> None:
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
    names = Names({mention: "LOC"})
    accept = rest_has_no_name(language, Counts(), Counter(), list(names.labels))
    base = SimpleNamespace(retrieve=lambda *_, **__: [Knowledge(entities=(known(text, mention, language),))])
    rows = list(labelled([text], base, accept, language, Counts(), names))
    assert [row[0] for row in rows] == ([text] if taken else [])


@pytest.mark.parametrize("mention", ["Paris", "Paris."])
def test_no_name_fills_the_data_and_none_is_cut(mention: str) -> None:
    settings = read_settings(Settings, RECIPE, changes=["positives.per_name=40"]).positives
    lines = [f"The number {i} bus goes to the town of Paris." for i in range(200)]

    def label(texts: list[str]) -> Any:
        starts = [text.index("Paris") for text in texts]
        return (
            (text, [Entity(start, start + len(mention), "LOC", mention)])
            for text, start in zip(texts, starts, strict=True)
        )

    rows = list(select(lines, label, "en", settings, random.Random(1)))
    assert len(rows) == 40 if mention == "Paris" else 30 < len(rows) < 40, "some lose their full stop"
    assert all(e.text.lower() == mention.lower() for row in rows for e in row.entities)
    assert all(row.text[e.start : e.end] == e.text for row in rows for e in row.entities)


def test_what_is_trained_on_is_not_measured_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from prose_names import lines_with_names  # type: ignore[import-not-found]

    lines = [f"line {i % 7} of Paris" for i in range(20)]
    path = tmp_path / "en.txt.xz"
    path.write_bytes(lzma.compress(("\n".join(lines) + "\n").encode()))
    knowledge = SimpleNamespace(known_entities=lambda text, partial_matches: (known(text, "Paris", "en"),))
    measured = {text for text, _ in lines_with_names(SimpleNamespace(knowledge=knowledge), path, "en")}
    assert measured
    assert not measured & set(training_lines(list(Lines(tmp_path, ("en",)).of("en"))))
    assert training_lines(["a", "b", "c", "b"]) == ["b"]


COMMON = Counts(
    lower=Counter({"the": 99, "le": 99, "das": 99, "el": 99, "это": 99}),
    grams=Counter({"我们": 99, "们很": 99, "很好": 99, "今日": 99, "日は": 99, "天気": 99, "気が": 99}),
    runs=Counter({"天気": 99, "今日": 99}),
    modified=Counter({"天気": 50, "今日": 50}),
    stems=Counter({"하늘": 400, "오늘": 400, "좋다": 400}),
)


@pytest.mark.parametrize(
    ("language", "without", "withs"),
    [
        ("en", "The weather is fine today.", ["The weather in Ulm is fine today.", "Ulm has fine weather today."]),
        ("de", "Das ist sehr schön heute.", ["Das ist sehr schön in Ulm.", "Ulm ist sehr schön heute."]),
        ("fr", "Le temps est beau.", ["Le temps est beau à Ulm."]),
        ("es", "El tiempo es bueno.", ["El tiempo es bueno en Ulm."]),
        ("ru", "Это очень хорошо.", ["Это очень хорошо в Ульме."]),
        ("zh", "我们很好。", ["我们在巴黎很好。", "我们Ulm很好。", "我们《很好》。"]),
        ("ja", "今日は天気がいい。", ["今日はパリがいい。", "今日は太郎がいい。", "今日は「天気」がいい。"]),
        ("ko", "오늘 하늘이 좋다.", ["오늘 로마 하늘이 좋다.", "오늘 Ulm 하늘이 좋다."]),
    ],
)
def test_a_sentence_with_a_sign_of_a_name_is_not_taken(language: str, without: str, withs: list[str]) -> None:
    accept = has_no_name(language, COMMON, Counter({"東京": 3, "서울": 3}))
    assert accept(without)
    assert not any(map(accept, withs))


def test_there_are_rules_for_every_language_of_the_recipe() -> None:
    for language in read_settings(Settings, RECIPE).languages:
        assert language in CASED or word_list(language)
        assert not has_no_name(language, Counts(), Counter())("Ulm")
