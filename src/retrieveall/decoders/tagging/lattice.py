"""Exact inference over well-formed tag sequences: the best sequence (Viterbi) and span probabilities.

The model gives each word a distribution over tags; the distribution over sequences is their product, restricted to
well-formed sequences and renormalised. Computed on padded batches of independent rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.decoders.tagging.tags import OUTSIDE, TagSet

__all__ = ["ScoredSpan", "decode_batch"]

Floats = npt.NDArray[np.floating[Any]]
ScoredSpan = tuple[int, int, str, float]
"""First word, last word + 1, label, probability."""

_IMPOSSIBLE = -1e30
_CELLS = 1 << 21  # numbers in one padded batch: 16 MB


def decode_batch(tag_set: TagSet, scores: Sequence[Floats]) -> list[list[ScoredSpan]]:
    """The spans of the best well-formed tag sequence of every sentence, each with its probability.

    A span's probability is the sum over all well-formed sequences that contain exactly this span with this label. Time
    and memory are linear in words and in tags.

    Args:
        scores: an array [words, tags] of log-probabilities, up to a constant per word, for each sentence.
    """
    lengths = [len(rows) for rows in scores]
    results: list[list[ScoredSpan]] = [[] for _ in scores]
    for rows in _batches(lengths, len(tag_set)):
        padded = _pad(tag_set, [scores[i] for i in rows])
        paths = _viterbi(tag_set, padded)
        if not (paths != OUTSIDE).any():
            continue
        marginals = _Marginals(tag_set, padded)
        for b, i in enumerate(rows):
            for start, end, label in tag_set.decode(paths[b, : lengths[i]].tolist()):
                results[i].append((start, end, label, marginals.span(b, start, end, label)))
    return results


def _batches(lengths: Sequence[int], tags: int) -> Iterator[list[int]]:
    """Batches of indices of non-empty sentences, sorted by length to reduce padding."""
    batch: list[int] = []
    for i in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] * tags > _CELLS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _pad(tag_set: TagSet, scores: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """[batch, longest, tags]; padding is O with probability 1, which changes neither path nor probabilities."""
    longest = max(len(rows) for rows in scores)
    padded = np.full((len(scores), longest, len(tag_set)), _IMPOSSIBLE)
    padded[:, :, OUTSIDE] = 0.0
    for b, rows in enumerate(scores):
        padded[b, : len(rows)] = rows
    return padded


def _penalty(allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.where(allowed, 0.0, _IMPOSSIBLE)


# The state of a well-formed sequence is either that no span is open (after O, E or S; then O, B or S follows), or the
# label of the open span (after B or I; then its I or E follows). So a step is linear in the tags; a transition table
# for 512 labels would have four million entries.


def _viterbi(tag_set: TagSet, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """The best well-formed path, [batch, words]."""
    batch, length, tags = scores.shape
    rows = np.arange(batch)
    closing, opening = np.flatnonzero(tag_set.ends), np.flatnonzero(tag_set.starts)
    begin, inside, end = (tag_set.columns(position) for position in "BIE")
    best = scores[:, 0] + _penalty(tag_set.starts)
    back = np.zeros((batch, length, tags), dtype=np.int16)
    for t in range(1, length):
        closed = closing[best[:, closing].argmax(axis=1)]
        longer = best[:, inside] > best[:, begin]
        back[:, t, opening] = closed[:, None]
        back[:, t, inside] = back[:, t, end] = np.where(longer, inside, begin)
        reached = np.empty_like(best)
        reached[:, opening] = best[rows, closed][:, None]
        reached[:, inside] = reached[:, end] = np.where(longer, best[:, inside], best[:, begin])
        best = reached + scores[:, t]
    path = np.zeros((batch, length), dtype=np.int16)
    path[:, -1] = (best + _penalty(tag_set.ends)).argmax(axis=1)
    for t in range(length - 1, 0, -1):
        path[:, t - 1] = back[rows, t, path[:, t]]
    return path


class _Marginals:
    """Forward and backward sums; the probability of a span is then computed in time linear in its length."""

    def __init__(self, tag_set: TagSet, scores: npt.NDArray[np.float64]) -> None:
        self._tag_set = tag_set
        self._scores = scores
        closing, opening = np.flatnonzero(tag_set.ends), np.flatnonzero(tag_set.starts)
        begin, inside, end = (tag_set.columns(position) for position in "BIE")
        batch, length, tags = scores.shape
        # before[:, t, j]: log of the total weight of all prefixes of t words that j may follow.
        self._before = np.empty((batch, length + 1, tags))
        self._before[:, 0] = _penalty(tag_set.starts)
        for t in range(length):
            forward = self._before[:, t] + scores[:, t]
            self._before[:, t + 1, opening] = _logsumexp(forward[:, closing])
            opened = np.logaddexp(forward[:, begin], forward[:, inside])
            self._before[:, t + 1, inside] = self._before[:, t + 1, end] = opened
        # A prefix that O may follow may also end the sentence.
        self._total = self._before[:, length, OUTSIDE]
        # after[:, t, i]: log of the total weight of all suffixes from word t on that may follow i.
        self._after = np.empty((batch, length + 1, tags))
        self._after[:, length] = _penalty(tag_set.ends)
        for t in range(length - 1, -1, -1):
            backward = scores[:, t] + self._after[:, t + 1]
            self._after[:, t, closing] = _logsumexp(backward[:, opening])
            opened = np.logaddexp(backward[:, inside], backward[:, end])
            self._after[:, t, begin] = self._after[:, t, inside] = opened

    def span(self, row: int, start: int, end: int, label: str) -> float:
        tags = self._tag_set.encode([(0, end - start, label)], end - start)
        inside = self._scores[row, np.arange(start, end), tags].sum()
        log = self._before[row, start, tags[0]] + inside + self._after[row, end, tags[-1]] - self._total[row]
        return float(min(1.0, np.exp(log)))


def _logsumexp(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log-sum-exp over the last axis: [batch, n] to [batch, 1]."""
    top = values.max(axis=1, keepdims=True)
    summed: npt.NDArray[np.float64] = np.log(np.exp(values - top).sum(axis=1, keepdims=True)) + top
    return summed
