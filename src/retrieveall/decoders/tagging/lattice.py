"""Exact inference over well-formed tag sequences: the best sequence (Viterbi) and span probabilities.

The model gives each word a distribution over tags; the distribution over sequences is their product, restricted to
well-formed sequences whose spans all hold a letter, and renormalised. Computed on padded batches of independent rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.decoders.tagging.tags import OUTSIDE, TagSet

__all__ = ["IMPOSSIBLE", "ScoredSpan", "decode_batch"]

Floats = npt.NDArray[np.floating[Any]]
ScoredSpan = tuple[int, int, str, float]
"""First word, last word + 1, label, probability."""

IMPOSSIBLE = -1e30
"""The score of a tag that a word cannot have."""

_CELLS = 1 << 21  # numbers in one padded batch: 16 MB


def decode_batch(
    tag_set: TagSet, scores: Sequence[Floats], letters: Sequence[npt.NDArray[np.bool_]] | None = None
) -> list[list[ScoredSpan]]:
    """The spans of the best well-formed tag sequence of every sentence, each with its probability.

    A span's probability is the sum over all well-formed sequences that contain exactly this span with this label. Time
    and memory are linear in words and in tags.

    Args:
        scores: an array [words, tags] of log-probabilities, up to a constant per word, for each sentence. O is
            always possible.
        letters: which words [words] of each sentence hold a letter; a span without one is not well-formed. None: all.
    """
    lengths = [len(rows) for rows in scores]
    results: list[list[ScoredSpan]] = [[] for _ in scores]
    for rows in _batches(lengths, len(tag_set)):
        padded = _pad(tag_set, [scores[i] for i in rows])
        lettered = np.ones(padded.shape[:2], dtype=np.bool_)
        if letters is not None:
            for b, i in enumerate(rows):
                lettered[b, : lengths[i]] = letters[i]
        steps = _Steps(tag_set, padded, lettered)
        paths = _viterbi(tag_set, steps)
        if not (paths != OUTSIDE).any():
            continue
        marginals = _Marginals(tag_set, steps)
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
    padded = np.full((len(scores), longest, len(tag_set)), IMPOSSIBLE)
    padded[:, :, OUTSIDE] = 0.0
    for b, rows in enumerate(scores):
        padded[b, : len(rows)] = rows
    return padded


# A well-formed sequence is in one of these states between two words: no span is open; a span with a given label is open
# and holds a letter; or it is open and bare, that is without a letter so far. O leaves all closed, S opens and closes,
# B opens, I goes on, E closes. A bare span cannot close at a word without a letter. So a step is linear in the tags; a
# transition table for 512 labels would have four million entries.
_CLOSED, _OPEN, _BARE = 0, 1, 2


class _Steps:
    """The scores [batch, words, labels] of each kind of tag, ``outside`` [batch, words, 1], ``letters`` the same."""

    def __init__(self, tag_set: TagSet, scores: npt.NDArray[np.float64], letters: npt.NDArray[np.bool_]) -> None:
        self.scores = scores
        self.letters = letters[:, :, None]
        self.outside = scores[:, :, OUTSIDE : OUTSIDE + 1]
        self.begin, self.inside, self.end, single = (scores[:, :, tag_set.columns(position)] for position in "BIES")
        self.single = np.where(self.letters, single, IMPOSSIBLE)


def _viterbi(tag_set: TagSet, steps: _Steps) -> npt.NDArray[np.int16]:
    """The best well-formed path, [batch, words]."""
    batch, length, _ = steps.scores.shape
    labels = len(tag_set.labels)
    closed = np.zeros((batch, 1))
    opened = np.full((batch, labels), IMPOSSIBLE)
    bare = opened
    closing = np.zeros((batch, length), dtype=np.int32)  # 0: O; then S of each label, E of each label
    before = np.zeros((3, batch, length, labels), dtype=np.int8)  # the state before each state and label
    for t in range(length):
        letter = steps.letters[:, t]
        use_bare = letter & (bare > opened)
        longest = np.where(use_bare, bare, opened)  # what E may close, and I may go on with to an open span
        before[_CLOSED, :, t] = kind = np.where(use_bare, _BARE, _OPEN)
        ways = np.concatenate(
            (closed + steps.outside[:, t], closed + steps.single[:, t], longest + steps.end[:, t]), axis=1
        )
        begun, goes_on = closed + steps.begin[:, t], longest + steps.inside[:, t]
        still_bare = bare + steps.inside[:, t]
        closing[:, t] = ways.argmax(axis=1)
        before[_OPEN, :, t] = np.where(letter & (begun >= goes_on), _CLOSED, kind)
        before[_BARE, :, t] = np.where(begun >= still_bare, _CLOSED, _BARE)
        closed = ways.max(axis=1, keepdims=True)
        opened = np.where(letter, np.maximum(begun, goes_on), goes_on)
        bare = np.where(letter, IMPOSSIBLE, np.maximum(begun, still_bare))
    return _path(tag_set, closing, before)


def _path(tag_set: TagSet, closing: npt.NDArray[np.int32], before: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """Follow the choices of ``_viterbi`` backwards from the closed state."""
    batch, length = closing.shape
    labels = len(tag_set.labels)
    rows = np.arange(batch)
    begin, inside, end, single = (tag_set.columns(position) for position in "BIES")
    closes = np.concatenate(([OUTSIDE], single, end))
    path = np.zeros((batch, length), dtype=np.int16)
    state, label = np.zeros(batch, dtype=np.int64), np.zeros(batch, dtype=np.int64)
    for t in range(length - 1, -1, -1):
        is_closed = state == _CLOSED
        way = closing[:, t]
        label = np.where(is_closed, np.maximum(way - 1, 0) % labels, label)
        earlier = before[state, rows, t, label].astype(np.int64)
        earlier = np.where(is_closed & (way <= labels), _CLOSED, earlier)
        goes_on = np.where(earlier == _CLOSED, begin[label], inside[label])
        path[:, t] = np.where(is_closed, closes[way], goes_on)
        state = earlier
    return path


class _Marginals:
    """Forward and backward sums; the probability of a span is then computed in time linear in its length."""

    def __init__(self, tag_set: TagSet, steps: _Steps) -> None:
        self._tag_set = tag_set
        self._scores = steps.scores
        batch, length, _ = steps.scores.shape
        none = np.full((batch, len(tag_set.labels)), IMPOSSIBLE)
        # before[:, t]: log of the total weight of all prefixes of t words that leave no span open.
        self._before = np.zeros((batch, length + 1))
        opened = bare = none
        for t in range(length):
            letter, closed = steps.letters[:, t], self._before[:, t, None]
            longest = np.where(letter, np.logaddexp(opened, bare), opened)
            ways = (closed + steps.outside[:, t], closed + steps.single[:, t], longest + steps.end[:, t])
            begun, goes_on = closed + steps.begin[:, t], longest + steps.inside[:, t]
            self._before[:, t + 1] = _logsumexp(np.concatenate(ways, axis=1))[:, 0]
            opened = np.where(letter, np.logaddexp(begun, goes_on), goes_on)
            bare = np.where(letter, IMPOSSIBLE, np.logaddexp(begun, bare + steps.inside[:, t]))
        # after[:, t]: log of the total weight of all suffixes from word t on, with no span open before it.
        self._after = np.zeros((batch, length + 1))
        opened = bare = none
        for t in range(length - 1, -1, -1):
            letter, closed = steps.letters[:, t], self._after[:, t + 1, None]
            begun = np.where(letter, opened, bare) + steps.begin[:, t]
            ways = (closed + steps.outside[:, t], closed + steps.single[:, t], begun)
            self._after[:, t] = _logsumexp(np.concatenate(ways, axis=1))[:, 0]
            opened = np.logaddexp(closed + steps.end[:, t], opened + steps.inside[:, t])
            bare = np.where(letter, opened, bare + steps.inside[:, t])

    def span(self, row: int, start: int, end: int, label: str) -> float:
        tags = self._tag_set.encode([(0, end - start, label)], end - start)
        inside = self._scores[row, np.arange(start, end), tags].sum()
        log = self._before[row, start] + inside + self._after[row, end] - self._before[row, -1]
        return float(min(1.0, np.exp(log)))


def _logsumexp(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log-sum-exp over the last axis: [batch, n] to [batch, 1]."""
    top = values.max(axis=1, keepdims=True)
    summed: npt.NDArray[np.float64] = np.log(np.exp(values - top).sum(axis=1, keepdims=True)) + top
    return summed
