"""Sequences of words in a text: which of a fixed set of phrases begin at which word.

Knows words and phrases, not what they stand for. A phrase is its words joined by ``BREAK``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrieveall.knowledge.words import (
    BREAK,
    Hashes,
    WordTable,
    extend_hashes,
    find_sorted,
    hash_phrase,
    hash_words,
    numbers_at,
    sorted_once,
    terminate,
)

__all__ = ["BREAK", "PhraseHashes", "Phrases"]


class PhraseHashes(NamedTuple):
    """Phrases to search for: the hash of each, its number, and the hashes of all their beginnings."""

    phrases: Hashes
    numbers: npt.NDArray[np.int64]
    beginnings: Hashes

    @classmethod
    def of(cls, table: WordTable, first_number: int = 0, *, sizes: npt.NDArray[np.int64] | None = None) -> PhraseHashes:
        """The phrases of a table, numbered from ``first_number``, of the first ``sizes`` characters of each word."""
        prefixes = table.prefixes(table.hashes(sizes))
        last = table.first + table.counts - 1
        whole = np.zeros(len(prefixes), np.bool_)
        whole[last] = True
        return cls(prefixes[last], first_number + np.arange(len(last)), prefixes[~whole])

    def only(self, kept: npt.NDArray[np.bool_]) -> PhraseHashes:
        """Some of the phrases; beginnings of the others do no harm but to speed."""
        return self._replace(phrases=self.phrases[kept], numbers=self.numbers[kept])


class Phrases:
    """Phrases as sorted hashes: 16 bytes each, and 8 for each of their beginnings.

    What is found has the same hash, which another phrase may have by chance: compare the words.
    """

    def __init__(self, parts: Iterable[PhraseHashes]) -> None:
        every = list(parts)
        empty = np.zeros(0, np.uint64)
        hashes = np.concatenate([empty, *(part.phrases for part in every)])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._numbers = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in every)])[order]
        self._beginnings = sorted_once(np.concatenate([empty, *(part.beginnings for part in every)]))

    @classmethod
    def of(cls, phrases: Iterable[str]) -> Phrases:
        """Phrases, numbered from 0 on."""
        return cls([PhraseHashes.of(WordTable(terminate(list(phrases))))])

    def numbers(self, phrase: str) -> list[int]:
        """The numbers of a phrase; none where it is not in the set."""
        return self._at(hash_phrase(phrase))

    def find(self, spellings: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, list[int]]]:
        """First word, word after the last, and the phrase's numbers, for every occurrence, overlapping ones too.

        Args:
            spellings: for each word of the text, what it may stand for in a phrase; nothing for a word that
                must not be part of any.
        """
        counts = np.array([len(each) for each in spellings], np.int64)
        starts = np.cumsum(counts) - counts
        words = hash_words([spelling for each in spellings for spelling in each])
        first = np.repeat(np.arange(len(counts)), counts)
        paths, size = words, 1
        while len(first):
            found, _ = find_sorted(self._hashes, paths)
            for hit in np.flatnonzero(found).tolist():
                yield int(first[hit]), int(first[hit]) + size, self._at(paths[hit])
            open_paths, _ = find_sorted(self._beginnings, paths)
            open_paths &= first + size < len(counts)
            first, paths = first[open_paths], paths[open_paths]
            # Each path goes on with each spelling of its next word.
            more = counts[first + size]
            within = np.arange(more.sum()) - np.repeat(np.cumsum(more) - more, more)
            following = words[np.repeat(starts[first + size], more) + within]
            first, paths = np.repeat(first, more), extend_hashes(np.repeat(paths, more), following, size)
            size += 1

    def _at(self, phrase: np.uint64) -> list[int]:
        """The numbers of the phrases with this hash."""
        return numbers_at(self._hashes, self._numbers, phrase)
