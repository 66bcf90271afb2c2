"""Between character spans of a text and spans of its words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from retrieveall.decoding.lattice import ScoredSpan
from retrieveall.types import Entity, Word

__all__ = ["to_entities", "to_word_spans"]


def to_word_spans(words: Sequence[Word], entities: Iterable[Entity]) -> list[tuple[int, int, str]]:
    """The (first word, last word + 1, label) spans that cover ``entities``.

    An entity that begins or ends inside a word takes the whole word, unless the entity before it has: a word
    belongs to one span, and an entity for which none is left has no span.
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


def to_entities(text: str, words: Sequence[Word], spans: Iterable[ScoredSpan]) -> tuple[Entity, ...]:
    """Word spans as entities of ``text``, from the start of the first word to the end of the last."""
    return tuple(
        Entity(start, end, label, text[start:end], score)
        for first, last, label, score in spans
        for start, end in [(words[first].start, words[last - 1].end)]
    )
