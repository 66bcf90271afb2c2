"""Stage 1, window: normalise texts, segment them into words and split long ones into overlapping windows.

A text of at most ``size`` words is one window. A longer one is split at sentence ends if possible; elsewhere the
neighbouring windows overlap, so that every word has context on both sides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from retrieveall.data import NormalText
from retrieveall.types import Word

__all__ = ["Cut", "Window", "cut_windows"]

_SENTENCE_END = frozenset(".!?…。！？।؟")
_CLOSING = frozenset("\"'»«”“’‘)]）」』")
_MAX_CLOSING = 4  # bounds the scan: a run of a million closing marks would take quadratic time


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
    """

    document: int
    source: NormalText
    text: str
    offset: int
    words: Sequence[Word]
    keep: tuple[int, int]

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


def cut_windows(
    text: str,
    words: Sequence[Word],
    size: int,
    overlap: int,
    *,
    costs: Sequence[int] | None = None,
    budget: int = 0,
) -> list[Cut]:
    """Windows of at most ``size`` words whose kept words cover the text once, in order.

    Args:
        overlap: words shared by two windows that are split inside a sentence, at most half of ``size``.
        costs: cost of each word, such as its tokens. A window costs at most ``budget``, or keeps a single word and
            adds at most a quarter of the budget to it.
    """
    sums = None if costs is None else [0, *accumulate(costs)]
    windows: list[Cut] = []
    kept = 0
    while kept < len(words):
        start = kept
        if kept > 0 and not _ends_sentence(text, words, kept - 1):
            start = max(0, kept - overlap)
            if sums is not None:
                start = max(start, bisect_left(sums, sums[kept] - budget // 4))
        end = min(start + size, len(words))
        if sums is not None:
            end = min(end, max(kept + 1, bisect_right(sums, sums[start] + budget) - 1))
        stop = end if end == len(words) else _last_sentence_end(text, words, start, end, kept)
        if stop is None:
            # The next window begins `overlap` words before its kept words; this one drops the last half of them.
            stop = max(kept + 1, end - min(overlap, end - kept) // 2)
        else:
            end = stop
        windows.append(Cut(start, end, kept, stop))
        kept = stop
    return windows


def _last_sentence_end(text: str, words: Sequence[Word], start: int, end: int, kept: int) -> int | None:
    """The last place to split in the second half of the words ``start`` to ``end``, after ``kept``."""
    first = max(kept, start + (end - start) // 2)
    return next((i for i in range(end, first, -1) if _ends_sentence(text, words, i - 1)), None)


def _ends_sentence(text: str, words: Sequence[Word], i: int) -> bool:
    """Whether word ``i`` ends a sentence: a full stop, a closing quote, or the end of a paragraph."""
    after = words[i + 1].start if i + 1 < len(words) else len(text)
    if text.count("\n", words[i].end, after) > 1:
        return True
    j = i
    while j > max(0, i - _MAX_CLOSING) and words[j].text in _CLOSING:
        j -= 1
    if words[j].text not in _SENTENCE_END:
        return False
    # "St. Louis", "J. Smith": a full stop after a short word usually belongs to an abbreviation.
    return words[j].text != "." or j == 0 or len(words[j - 1].text) > 3
