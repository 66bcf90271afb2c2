"""What kinds of error a method makes, and how it does on mentions and sentences that it has seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from retrieveall.benchmark.scores import Row, score
from retrieveall.evaluation.spans import Span

__all__ = ["Bin", "Errors", "analyse", "confusion", "expected_error", "reliability", "seen_recall", "sentence_f1"]


@dataclass(frozen=True, slots=True)
class Errors:
    """Numbers of entities. Each gold entity is counted once: as correct, with the first fault below, or missed.

    ``boundary``: the label is right, the span overlaps; ``type``: the span is right, the label is not; ``both``: it
    overlaps with another label; ``spurious``: predicted, and overlaps no gold entity.
    """

    correct: int = 0
    boundary: int = 0
    type: int = 0
    both: int = 0
    missed: int = 0
    spurious: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def analyse(rows: Sequence[Row]) -> Errors:
    """The errors in all sentences."""
    return sum((_of_sentence(set(row.gold), set(row.predicted)) for row in rows), Errors())


def _of_sentence(gold: set[Span], predicted: set[Span]) -> Errors:
    wrong = predicted - gold
    kinds = [_kind(span, wrong) for span in gold - predicted]
    counts = {kind: kinds.count(kind) for kind in ("boundary", "type", "both", "missed")}
    spurious = sum(not any(_overlap(span, each) for each in gold) for span in wrong)
    return Errors(correct=len(gold & predicted), spurious=spurious, **counts)


def _kind(span: Span, wrong: set[Span]) -> str:
    touching = [each for each in wrong if _overlap(span, each)]
    if any(each[:2] == span[:2] for each in touching):
        return "type"
    if any(each[2] == span[2] for each in touching):
        return "boundary"
    return "both" if touching else "missed"


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def seen_recall(rows: Sequence[Row]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(found, gold) entities among the mentions seen in training, and among the others."""
    table = {True: [0, 0], False: [0, 0]}
    for row in rows:
        predicted = set(row.predicted)
        for span, seen in zip(row.gold, row.seen, strict=True):
            table[seen][0] += span in predicted
            table[seen][1] += 1
    return (table[True][0], table[True][1]), (table[False][0], table[False][1])


def sentence_f1(rows: Sequence[Row]) -> tuple[float | None, float | None]:
    """Micro F1 on the sentences that are also training sentences, and on the others; None where there are none."""
    parts = [[row for row in rows if row.in_train is which] for which in (True, False)]
    first, second = (score(part).micro.f1 if part else None for part in parts)
    return first, second


@dataclass(frozen=True, slots=True)
class Bin:
    """Predicted entities of about the same probability: their mean probability, the share of correct ones, number."""

    probability: float
    correct: float
    number: int


def reliability(rows: Sequence[Row], bins: int = 10) -> list[Bin]:
    """Bins of equal width over 0 to 1, without empty ones; none for a method without probabilities."""
    found = [
        (probability, span in row.gold)
        for row in rows
        for span, probability in zip(row.predicted, row.probabilities, strict=False)
    ]
    if not found:
        return []
    probabilities, right = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        Bin(float(probabilities[own].mean()), float(right[own].mean()), int(own.sum()))
        for place in range(bins)
        if (own := places == place).any()
    ]


def expected_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error (Naeini et al. 2015); None without bins."""
    total = sum(each.number for each in bins)
    return sum(each.number * abs(each.probability - each.correct) for each in bins) / total if total else None


def confusion(rows_by_language: dict[str, Sequence[Row]]) -> dict[str, dict[str, int]]:
    """How many sentences of each language went to the adapter of each; empty where nothing was routed."""
    table: dict[str, dict[str, int]] = {}
    for language, rows in rows_by_language.items():
        for row in rows:
            if row.routed is not None:
                own = table.setdefault(language, {})
                own[row.routed] = own.get(row.routed, 0) + 1
    return table
