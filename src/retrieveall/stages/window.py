"""Stage 1, window: normalise texts, segment them into words and split long ones into overlapping windows.

A window is as many whole sentences as have ``few`` words together, or one longer sentence: models learn from single
sentences, and lose names in a window of many. Sentences end at borders (``retrieveall.data.borders``). Where none is
within ``size`` words, the neighbouring windows overlap, so that every word has context on both sides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from retrieveall.data import NormalText, has_letter, may_be_edge
from retrieveall.types import Word

__all__ = ["Cut", "Window", "cut_windows", "windows_to_run"]


class Cut(NamedTuple):
    """Words ``start`` to ``end`` form a window; entities that begin in ``keep_start`` to ``keep_end`` are kept."""

    start: int
    end: int
    keep_start: int
    keep_end: int


@dataclass(frozen=True, slots=True)
class Window:
    """A segment of one text that the model processes at once.

    Args:
        document: number of the text in the batch.
        source: the whole text in normal form.
        offset: start of ``text`` in ``source.text``.
        words: words of the window, with offsets in ``source.text``.
        keep: (first, last + 1) index in ``words`` of the words whose predictions are kept.
        borders: indices in ``words`` of the words that no entity continues into, ascending.
    """

    document: int
    source: NormalText
    text: str
    offset: int
    words: Sequence[Word]
    keep: tuple[int, int]
    borders: Sequence[int] = ()

    def allows(self, first: int, last: int) -> bool:
        """Whether the words ``first`` to ``last`` (exclusive) can be an entity, by their characters alone.

        They cross no border, hold a letter, and neither begin nor end with markup or emoji.
        """
        inside = self.words[first:last]
        return (
            bisect_right(self.borders, first) == bisect_left(self.borders, last)
            and any(map(has_letter, inside))
            and may_be_edge(inside[0])
            and may_be_edge(inside[-1])
        )

    @property
    def may_hold_entities(self) -> bool:
        """Whether a word holds a letter; without one, ``allows`` allows nothing."""
        return any(map(has_letter, self.words))

    def continues(self, before: Window) -> bool:
        """Whether the text was split between ``before`` and this window inside a sentence."""
        inside = before.keep[1] < len(before.words) or self.keep[0] > 0
        return self.document == before.document and inside

    def count_words(self, start: int, end: int) -> int:
        """The number of words that begin in the character range ``start`` to ``end`` of ``source.text``."""
        return sum(start <= word.start < end for word in self.words)

    @property
    def kept_words(self) -> int:
        return self.keep[1] - self.keep[0]

    @property
    def kept_span(self) -> tuple[int, int]:
        """The character range of ``source.text`` in which this window's entities begin, end exclusive."""
        first, last = self.keep
        return self.words[first].start, self.words[last - 1].end


def windows_to_run(windows: Sequence[Window]) -> list[int]:
    """The numbers of the windows in which an entity can begin or end: those with a letter, and where the text was
    split inside a sentence, the windows beside them.
    """
    order = sorted(range(len(windows)), key=lambda i: (windows[i].document, windows[i].kept_span))
    letters = [windows[i].may_hold_entities for i in order]
    chosen = {i for i, lettered in zip(order, letters, strict=True) if lettered}
    for (left, right), lettered in zip(pairwise(order), pairwise(letters), strict=True):
        if any(lettered) and windows[right].continues(windows[left]):
            chosen |= {left, right}
    return sorted(chosen)


def cut_windows(
    count: int,
    size: int,
    overlap: int,
    *,
    few: int | None = None,
    borders: Sequence[int] = (),
    ends: Sequence[int] = (),
    costs: Sequence[int] | None = None,
    budget: int = 0,
) -> list[Cut]:
    """Windows of at most ``size`` of ``count`` words, whose kept words cover the text once, in order.

    Args:
        overlap: words shared by two windows that are split elsewhere than at a border, at most half of ``size``.
        few: words that a window of several sentences has at most; None: ``size``.
        borders: numbers of the words that begin after a border, ascending.
        ends: those of ``borders`` that no window goes over.
        costs: cost of each word, such as its tokens. A window costs at most ``budget``, or keeps a single word and
            adds at most a quarter of the budget to it.
    """
    sums = None if costs is None else [0, *accumulate(costs)]
    windows: list[Cut] = []
    kept = 0
    while kept < count:
        start = kept
        if kept > 0 and _last_border(borders, kept - 1, kept) is None:
            start = max(0, kept - overlap)
            if sums is not None:
                start = max(start, bisect_left(sums, sums[kept] - budget // 4))
        i = bisect_right(ends, kept)
        end = min(start + size, ends[i] if i < len(ends) else count)
        if sums is not None:
            end = min(end, max(kept + 1, bisect_right(sums, sums[start] + budget) - 1))
        stop = _sentence_end(borders, kept, kept + (few or size), end, count)
        if stop is None:
            # The next window begins `overlap` words before its kept words; this one drops the last half of them.
            stop = max(kept + 1, end - min(overlap, end - kept) // 2)
        else:
            end = stop
        windows.append(Cut(start, end, kept, stop))
        kept = stop
    return windows


def _sentence_end(borders: Sequence[int], kept: int, wanted: int, end: int, count: int) -> int | None:
    """The last border or end of the text up to word ``wanted``, else the first one; None if that is after ``end``."""
    if end == count <= wanted:
        return count
    stop = _last_border(borders, kept, min(wanted, end))
    if stop is None:
        i = bisect_right(borders, kept)
        stop = borders[i] if i < len(borders) else count
    return stop if stop <= end else None


def _last_border(borders: Sequence[int], after: int, end: int) -> int | None:
    """The last border after word ``after`` up to word ``end``."""
    i = bisect_right(borders, end) - 1
    return borders[i] if i >= 0 and borders[i] > after else None
