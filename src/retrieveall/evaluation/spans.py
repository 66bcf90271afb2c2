"""Precision, recall and F1 of entities as sets of character spans.

A predicted entity is correct if start, end and label match a gold entity. On spans decoded from tag sequences
(``data.tags_to_spans``), the scores equal those of seqeval's default mode, and for well-formed sequences also those
of its strict mode.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from retrieveall.errors import InputError
from retrieveall.types import Entity

__all__ = ["Counts", "Span", "SpanScores", "score_spans", "spans_of", "widen"]

Span = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of correct, predicted and gold entities; add two to score them together.

    A ratio without a denominator is 0, as in seqeval and scikit-learn.
    """

    correct: int = 0
    predicted: int = 0
    gold: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.correct + other.correct, self.predicted + other.predicted, self.gold + other.gold)

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        return 2 * self.correct / (self.predicted + self.gold) if self.correct else 0.0


@dataclass(frozen=True)
class SpanScores:
    """Counts by label, sorted; add two to score them together."""

    by_label: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def micro(self) -> Counts:
        """All labels together."""
        return sum(self.by_label.values(), Counts())

    def __add__(self, other: SpanScores) -> SpanScores:
        labels = sorted({*self.by_label, *other.by_label})
        none = Counts()
        return SpanScores({label: self.by_label.get(label, none) + other.by_label.get(label, none) for label in labels})


def spans_of(entities: Iterable[Entity]) -> set[Span]:
    """The (start, end, label) of the entities; a span given twice counts once."""
    return {(entity.start, entity.end, entity.label) for entity in entities}


def score_spans(gold: Iterable[Iterable[Entity]], predicted: Iterable[Iterable[Entity]]) -> SpanScores:
    """Score the entities of many texts; both arguments hold one collection per text, in the same order.

    Raises:
        InputError: different numbers of texts.
    """
    correct: Counter[str] = Counter()
    proposed: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    try:
        for truth, guess in zip(gold, predicted, strict=True):
            true_spans, guessed_spans = spans_of(truth), spans_of(guess)
            wanted.update(label for _, _, label in true_spans)
            proposed.update(label for _, _, label in guessed_spans)
            correct.update(label for _, _, label in true_spans & guessed_spans)
    except ValueError:
        raise InputError(
            "expected predictions for as many texts as there are gold texts; pass one collection per text"
        ) from None
    return SpanScores(
        {label: Counts(correct[label], proposed[label], wanted[label]) for label in sorted({*wanted, *proposed})}
    )


def widen(spans: Iterable[Span], tokens: Sequence[tuple[int, int]]) -> list[Span]:
    """Each span, grown to the tokens that it touches: the way a corpus of tokens would mark it.

    A corpus that tags whole words cannot mark a name without the particle that is attached to it. A span that touches
    no token stays as it is. Two spans can become one.

    Args:
        tokens: (start, end) of each token, sorted, without overlap.
    """
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    widened = []
    for start, end, label in spans:
        first = bisect_right(ends, start)  # the first token that ends after the start
        last = bisect_left(starts, end)  # the first token that begins at the end or after it
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        widened.append((start, end, label))
    return widened
