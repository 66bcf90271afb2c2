"""The words of many phrases, hashed all at once in arrays: in a quarter of the time that a table of strings takes.

A phrase is its words joined by ``BREAK``. Hashes have 64 bits and are the same in every process. Two phrases may have
the same one, so what is found by hash is compared with the words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BREAK",
    "SEPARATOR",
    "Hashes",
    "WordTable",
    "extend_hashes",
    "find_sorted",
    "hash_phrase",
    "hash_words",
    "numbers_at",
    "sorted_once",
    "terminate",
]

BREAK = "\n"
"""Stands between the words of a phrase; no word contains it."""
SEPARATOR = "\0"
"""Stands between phrases; no word contains it."""

Hashes = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int64]

# Odd numbers without a pattern: a hash is the polynomial of a word's characters, or of a phrase's words, modulo 2^64.
_CHARACTER = 0x9E3779B97F4A7C15
_WORD = 0xC2B2AE3D27D4EB4F


class WordTable:
    """Characters and words of phrases.

    Args:
        phrases: each followed by ``SEPARATOR``.
    """

    def __init__(self, phrases: str) -> None:
        codes = np.frombuffer(phrases.encode("utf-32-le", "surrogatepass"), np.uint32)
        ends = np.flatnonzero((codes == ord(BREAK)) | (codes == ord(SEPARATOR)))
        self._codes = codes
        self._starts: _Integers = np.concatenate([ends[:0], [0], ends[:-1] + 1])[: len(ends)]
        self.sizes: _Integers = ends - self._starts
        """Characters of each word."""
        after = np.flatnonzero(codes[ends] == ord(SEPARATOR)) + 1
        self.first: _Integers = np.concatenate([after[:0], [0], after[:-1]])[: len(after)]
        """Number of the first word of each phrase."""
        self.counts: _Integers = after - self.first
        """Words of each phrase."""

    @property
    def phrase_of(self) -> _Integers:
        """The number of each word's phrase."""
        return np.repeat(np.arange(len(self.first)), self.counts)

    @property
    def long(self) -> npt.NDArray[np.bool_]:
        """Whether the words of each phrase are more than single characters."""
        characters = _sum(self.sizes, self.first) + self.counts - 1
        return characters >= 2 * self.counts

    def hashes(self, sizes: _Integers | None = None) -> Hashes:
        """The hash of each word, or of its first ``sizes`` characters."""
        within = np.arange(len(self._codes)) - np.repeat(self._starts, self.sizes + 1)
        values = self._codes * _powers(_CHARACTER, int(self.sizes.max(initial=0)) + 1)[within]
        values[within >= np.repeat(self.sizes if sizes is None else sizes, self.sizes + 1)] = 0
        return _sum(values, self._starts)

    def prefixes(self, hashes: Hashes) -> Hashes:
        """For each word the hash of its phrase up to and with this word, of the words' ``hashes``."""
        within = np.arange(len(hashes)) - np.repeat(self.first, self.counts)
        sums = np.cumsum(hashes * _powers(_WORD, int(self.counts.max(initial=0)))[within], dtype=np.uint64)
        before = np.concatenate([np.zeros(1, np.uint64), sums])[self.first]
        prefixes: Hashes = sums - np.repeat(before, self.counts)
        return prefixes

    def alphabetic(self, *, all_of_it: bool) -> npt.NDArray[np.bool_]:
        """Whether each word has a letter, or consists of letters."""
        letters = _letters(self._codes)
        letters[self._starts + self.sizes] = all_of_it  # what follows the word, so that none is empty
        reduce: Any = np.logical_and if all_of_it else np.logical_or
        found: npt.NDArray[np.bool_] = reduce.reduceat(letters, self._starts) if len(self._starts) else letters[:0]
        return found & (self.sizes > 0)

    def begins_with(self, first: str, last: str) -> npt.NDArray[np.bool_]:
        """Whether the first character of each word is ``first`` to ``last``."""
        codes = self._codes[self._starts]
        return (codes >= ord(first)) & (codes <= ord(last))


def hash_phrase(phrase: str) -> np.uint64:
    """The hash of one phrase."""
    table = WordTable(terminate([phrase]))
    found: np.uint64 = table.prefixes(table.hashes())[-1]
    return found


def numbers_at(hashes: Hashes, numbers: _Integers, wanted: np.uint64) -> list[int]:
    """Of ``numbers``, one for each of the sorted ``hashes``, those of the hashes that are ``wanted``."""
    start, end = np.searchsorted(hashes, wanted), np.searchsorted(hashes, wanted, side="right")
    found: list[int] = numbers[start:end].tolist()
    return found


def hash_words(words: Sequence[str]) -> Hashes:
    """The hash of each word; none may contain ``BREAK`` or ``SEPARATOR``."""
    return WordTable(terminate(words)).hashes()


def terminate(phrases: Sequence[str]) -> str:
    """Phrases as ``WordTable`` takes them."""
    return SEPARATOR.join([*phrases, ""])


def extend_hashes(phrases: Hashes, words: Hashes, count: int) -> Hashes:
    """The hashes of phrases of ``count`` words, each with one more word."""
    longer: Hashes = phrases + words * _powers(_WORD, count + 1)[count]
    return longer


def find_sorted(table: Hashes, wanted: Hashes) -> tuple[npt.NDArray[np.bool_], _Integers]:
    """Which of ``wanted`` are in the sorted table, and the first place of each there."""
    places = np.searchsorted(table, wanted)
    if not len(table):
        return np.zeros(len(wanted), np.bool_), places
    return table[np.minimum(places, len(table) - 1)] == wanted, places


def sorted_once(hashes: Hashes) -> Hashes:
    """The different hashes in ascending order; ``np.unique`` of numpy 2.3 takes five times as long."""
    ordered = np.sort(hashes)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _sum(values: npt.NDArray[Any], starts: _Integers) -> npt.NDArray[Any]:
    summed: npt.NDArray[Any] = np.add.reduceat(values, starts) if len(starts) else values[:0]
    return summed


@functools.lru_cache(maxsize=64)
def _power_table(base: int, size: int) -> Hashes:
    return np.concatenate([np.ones(1, np.uint64), np.cumprod(np.full(size - 1, base, np.uint64), dtype=np.uint64)])


def _powers(base: int, size: int) -> Hashes:
    """At least ``size`` powers, from 0 on."""
    return _power_table(base, 1 << max(6, (size - 1).bit_length()))


def _letters(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether each character is a letter."""
    table = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    present = np.flatnonzero(np.bincount(codes))
    table[present] = [chr(code).isalpha() for code in present.tolist()]
    return table[codes]
