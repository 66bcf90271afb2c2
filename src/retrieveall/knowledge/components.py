"""Components of mentions: the words of a surface of several words, or where every word is one character, as in Chinese,
its beginnings and ends. A text that holds a component may mention the surface by it.

Knows the words of surfaces, not their labels. Components are known by their hashes.
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
)

__all__ = ["Components", "components_of", "has_long_words"]

_CHARACTERS = (2, 3, 4)  # how many of them a beginning or an end has; without a gap


def components_of(key: str) -> set[str]:
    """The components of one surface; a single word has none."""
    words = key.split(BREAK)
    if len(words) == 1:
        return set()
    if has_long_words(len(key), len(words)):
        return {word for word in words if len(word) > 1 and any(map(str.isalpha, word))}
    return _edges(words)


class Components:
    """Which surfaces have which component.

    Args:
        tables: words of surfaces, and the number of the first surface of each table.
    """

    def __init__(self, tables: Iterable[tuple[int, WordTable]]) -> None:
        found = [_Found(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint64))]
        for first, table in tables:
            hashes = table.hashes()
            found += [_words(table, hashes, first), *_all_edges(table, hashes, first)]
        of = np.concatenate([each.components for each in found])
        at = np.concatenate([each.numbers for each in found])
        order = np.lexsort((at, of))
        of, at = of[order], at[order]
        again = np.zeros(len(of), np.bool_)  # a word that a surface has twice
        again[1:] = (of[1:] == of[:-1]) & (at[1:] == at[:-1])
        self._hashes, self._numbers = of[~again], at[~again]
        self._begins = sorted_once(
            np.concatenate([each.begins for each in found])
        )  # hashes of the words that some edge begins with

    def numbers(self, component: str) -> list[int]:
        """The surfaces with this component, in ascending order."""
        return numbers_at(self._hashes, self._numbers, hash_phrase(component))

    def find(self, words: Sequence[str], free: Sequence[bool]) -> Iterator[tuple[int, int]]:
        """First word and word after the last of every component among the ``free`` words; they may overlap."""
        hashes = hash_words(words)
        open_words = np.array(free, np.bool_)
        found, _ = find_sorted(self._hashes, hashes)
        for first in np.flatnonzero(found & open_words).tolist():
            yield first, first + 1
        begins, _ = find_sorted(self._begins, hashes)
        begins &= open_words
        edges = hashes
        for size in _CHARACTERS:
            # From each word on, one word longer than before, as far as the words are free.
            begins = begins[: len(hashes[size - 1 :])] & open_words[size - 1 :]
            edges = extend_hashes(edges[: len(begins)], hashes[size - 1 :], size - 1)
            found, _ = find_sorted(self._hashes, edges)
            for first in np.flatnonzero(found & begins).tolist():
                yield first, first + size


def has_long_words(characters: int, words: int) -> bool:
    """Whether the words of a key of so many characters are more than single characters."""
    return characters >= 2 * words


def _edges(words: Sequence[str]) -> set[str]:
    sizes = [size for size in _CHARACTERS if size < len(words)]
    return {BREAK.join(edge) for size in sizes for edge in (words[:size], words[-size:])}


class _Found(NamedTuple):
    """Hashes of components, the number of the surface of each, and hashes of the words that edges begin with."""

    components: Hashes
    numbers: npt.NDArray[np.int64]
    begins: Hashes


def _words(table: WordTable, hashes: Hashes, first: int) -> _Found:
    """The words of surfaces of several words that are longer than single characters."""
    surfaces = table.phrase_of
    good = (table.long & (table.counts > 1))[surfaces] & (table.sizes > 1) & table.alphabetic(all_of_it=False)
    return _Found(hashes[good], first + surfaces[good], hashes[:0])


def _all_edges(table: WordTable, hashes: Hashes, first: int) -> Iterator[_Found]:
    """The beginnings and the ends of surfaces whose words are single characters."""
    short = np.flatnonzero(~table.long & (table.counts > 1))
    for size in _CHARACTERS:
        surfaces = short[table.counts[short] > size]
        for starts in (table.first[surfaces], table.first[surfaces] + table.counts[surfaces] - size):
            edges = hashes[starts]
            for count in range(1, size):
                edges = extend_hashes(edges, hashes[starts + count], count)
            yield _Found(edges, first + surfaces, hashes[starts])
