"""What the shipped models find in text of their users: a floor below which a change is not to fall.

The samples are small (50 sentences a language and set), so the floors lie some points below what was measured; the
measured figures are in the model cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from retrieveall import RetrieveAll
from retrieveall.data import read_corpus
from retrieveall.evaluation import evaluate
from retrieveall.types import Entity, Prediction

SAMPLES = Path(__file__).parent / "samples"
LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")
_MARK = re.compile(r"⟦(\w+)\|(.*?)⟧", re.DOTALL)

pytestmark = pytest.mark.slow


@cache
def base() -> RetrieveAll:
    return RetrieveAll.from_pretrained("base", device="cpu")


def marked(line: str) -> tuple[str, str, tuple[Entity, ...]]:
    """The kind of an ordinary text, the text and its marks."""
    kind, _, source = line.partition("\t")
    source = source.replace("\\n", "\n").replace("\\t", "\t")
    text, entities, position = "", [], 0
    for match in _MARK.finditer(source):
        text += source[position : match.start()]
        entities.append(Entity(len(text), len(text) + len(match[2]), match[1], match[2]))
        text += match[2]
        position = match.end()
    return kind, text + source[position:], tuple(entities)


def ordinary() -> list[tuple[str, str, tuple[Entity, ...]]]:
    lines = (SAMPLES / "ordinary.txt").read_text(encoding="utf-8").splitlines()
    return [marked(line) for line in lines if line and not line.startswith("#")]


@cache
def found() -> tuple[Prediction, ...]:
    return tuple(base().predict([text for _, text, _ in ordinary()]))


def spans(entities: Iterable[Entity]) -> set[tuple[int, int, str]]:
    return {(each.start, each.end, each.label) for each in entities}


def f1(kind: str | None = None) -> float:
    """Over the ordinary texts of a kind, or over all."""
    pairs = [
        (spans(gold), spans(prediction.entities))
        for (own, _, gold), prediction in zip(ordinary(), found(), strict=True)
        if kind in (None, own)
    ]
    correct, wanted, got = (sum(map(len, each)) for each in zip(*((a & b, a, b) for a, b in pairs), strict=True))
    return 2 * correct / (wanted + got)


@pytest.mark.parametrize(("name", "floor"), [("running", 0.71), ("panx", 0.76)])
def test_f1_of_the_samples(name: str, floor: float) -> None:
    files = sorted((SAMPLES / name).glob("*.jsonl"))
    sentences = {path.stem: list(read_corpus(path, language=path.stem)) for path in files}
    report = evaluate(base(), sentences)
    assert report.mean["f1"] is not None
    assert report.mean["f1"] >= floor


def test_sentences_without_a_name_get_none() -> None:
    files = sorted((SAMPLES / "running").glob("*.jsonl"))
    texts = [each.text for path in files for each in read_corpus(path, language=path.stem) if not each.entities]
    spurious = sum(bool(prediction.entities) for prediction in base().predict(texts))
    assert spurious <= 0.15 * len(texts)


def test_ordinary_texts() -> None:
    assert f1() >= 0.88


@pytest.mark.parametrize(
    "kind",
    ["sentence end", "line breaks", "short", "case", "greeting", "normal form", "particles", "mixed", "markup",
     "well known"],
)  # fmt: skip
def test_ordinary_texts_by_kind(kind: str) -> None:
    assert f1(kind) >= 0.6


def test_texts_of_ordinary_life_without_a_name_get_none() -> None:
    wrong = [
        (prediction.text, [each.text for each in prediction.entities])
        for (kind, _, _), prediction in zip(ordinary(), found(), strict=True)
        if kind == "no name" and prediction.entities
    ]
    assert len(wrong) <= 1, wrong


def test_texts_in_languages_that_are_not_in_the_pool_are_named_so() -> None:
    texts = (SAMPLES / "not-in-the-pool.txt").read_text(encoding="utf-8").splitlines()
    predictions = base().predict(texts)
    assert [(each.text, each.route.reason) for each in predictions if each.route.reason != "unknown"] == []
    assert all(not each.route.adapters for each in predictions)
