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


@pytest.mark.parametrize(
    ("name", "floor"),
    [("running", RUNNING), ("panx", PANX)],
)
def test_f1_of_the_samples(name: str, floor: float) -> None:
    files = sorted((SAMPLES / name).glob("*.jsonl"))
    sentences = {path.stem: list(read_corpus(path, language=path.stem)) for path in files}
    report = evaluate(base(), sentences)
    assert report.mean["f1"] >= floor
