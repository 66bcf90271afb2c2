"""Long texts in windows of words: where to cut, and how the windows' scores become those of the whole text.

A text of at most ``size`` words is one window. A longer one is cut at sentence ends where there are any; a
stretch without one is cut anywhere, and then the neighbours overlap, so that every word is read with context on
both sides. Knows words and what each costs, not what it is made of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.types import Word

__all__ = ["Window", "cut_windows", "merge_scores", "merge_spans"]

_SENTENCE_END = frozenset(".!?…。！？।؟")
_CLOSING = frozenset("\"'»«”“’‘)]）」』")
_MAX_CLOSING = 4  # more in a row close no quote, and all of a million would be looked at again for every word


@dataclass(frozen=True, slots=True)
class Window:
    """Words ``start`` to ``end`` are run together; the scores of ``keep_start`` to ``keep_end`` are kept."""

    start: int
    end: int
    keep_start: int
    keep_end: int


def cut_windows(
    text: str,
    words: Sequence[Word],
    size: int,
    overlap: int,
    *,
    costs: Sequence[int] | None = None,
    budget: int = 0,
) -> list[Window]:
    """Windows of at most ``size`` words whose kept parts are the whole text, in order, once.

    Args:
        overlap: words that are read again before a cut that is not at the end of a sentence, at most half of
            ``size``.
        costs: of each word, such as its tokens. A window then costs at most ``budget``, or keeps one word only
            and costs at most a quarter of the budget beside it.
    """
    sums = None if costs is None else [0, *accumulate(costs)]
    windows: list[Window] = []
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
            # The next window begins `overlap` words before what it keeps; both read half of the shared words.
            stop = max(kept + 1, end - min(overlap, end - kept) // 2)
        else:
            end = stop
        windows.append(Window(start, end, kept, stop))
        kept = stop
    return windows


def _last_sentence_end(text: str, words: Sequence[Word], start: int, end: int, kept: int) -> int | None:
    """The last place to cut in the second half of the words ``start`` to ``end``, after ``kept``."""
    first = max(kept, start + (end - start) // 2)
    return next((i for i in range(end, first, -1) if _ends_sentence(text, words, i - 1)), None)


def _ends_sentence(text: str, words: Sequence[Word], i: int) -> bool:
    """Whether word ``i`` is the last of a sentence: its full stop, a quote that closes it, or the end of a
    paragraph.
    """
    after = words[i + 1].start if i + 1 < len(words) else len(text)
    if text.count("\n", words[i].end, after) > 1:
        return True
    j = i
    while j > max(0, i - _MAX_CLOSING) and words[j].text in _CLOSING:
        j -= 1
    if words[j].text not in _SENTENCE_END:
        return False
    # "St. Louis", "J. Smith": a full stop after a short word is more often that of an abbreviation.
    return words[j].text != "." or j == 0 or len(words[j - 1].text) > 3


def merge_scores(windows: Sequence[Window], scores: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Scores [words, tags] of the text from those of its windows [words of the window, tags]."""
    parts = [
        rows[window.keep_start - window.start : window.keep_end - window.start]
        for window, rows in zip(windows, scores, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def merge_spans(
    windows: Sequence[Window],
    words: Sequence[Word],
    spans: Sequence[Sequence[tuple[int, int, str, float]]],
) -> list[tuple[int, int, str, float]]:
    """Spans of characters (start, end, label, probability) of the text from those of its windows, by position.

    Args:
        words: of the text.
        spans: of each window, with offsets in the text. One counts where its first word lies in what the window
            keeps; one that overlaps with a span before it does not.
    """
    starts = [word.start for word in words]
    found: list[tuple[int, int, str, float]] = []
    free_from = 0
    for window, own in zip(windows, spans, strict=True):
        for start, end, label, probability in sorted(own):
            first = bisect_right(starts, start) - 1
            if window.keep_start <= first < window.keep_end and start >= free_from:
                found.append((start, end, label, probability))
                free_from = end
    return found
