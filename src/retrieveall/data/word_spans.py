"""Converts character spans to word spans."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from retrieveall.types import Entity, Word

__all__ = ["to_word_spans"]


def to_word_spans(words: Sequence[Word], entities: Iterable[Entity]) -> list[tuple[int, int, str]]:
    """The (first word, last word + 1, label) spans that cover ``entities``.

    An entity that begins or ends inside a word gets the whole word, unless the previous entity has it: each word
    belongs to one span, and an entity without a free word has no span.
    """
    starts, ends = [word.start for word in words], [word.end for word in words]
    spans: list[tuple[int, int, str]] = []
    free_from = 0
    for entity in sorted(entities, key=lambda e: (e.start, e.end)):
        first = max(bisect_right(ends, entity.start), free_from)
        last = bisect_left(starts, entity.end)
        if first < last:
            spans.append((first, last, entity.label))
            free_from = last
    return spans
