"""Components of mentions: the words of a surface of several words, or where every word is one character, as in Chinese,
its beginnings and ends. A text that holds a component may mention the surface by it.

Knows the words of surfaces, not their labels. Arrays take a third of the time that a table of lists takes to build.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from retrieveall.knowledge.phrases import BREAK

__all__ = ["Components", "components_of", "has_long_words"]

_CHARACTERS = (2, 3, 4)  # how many of them a beginning or an end has

_Numbers = npt.NDArray[np.int64]


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
        keys: the words of every surface, joined by ``BREAK``.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        words, surfaces, dictionary = _words(keys)
        self._codes = dict(zip(dictionary, range(len(dictionary)), strict=True))
        self._first: set[str] = set()  # words that some edge begins with
        codes: list[int] = []
        numbers: list[int] = []
        for number, key in enumerate(keys):
            count = key.count(BREAK) + 1
            if count > 1 and not has_long_words(len(key), count):
                for edge in _edges(key.split(BREAK)):
                    self._first.add(edge.partition(BREAK)[0])
                    codes.append(self._codes.setdefault(edge, len(self._codes)))
                    numbers.append(number)
        of = np.concatenate([words, np.array(codes, dtype=np.int64)])
        at = np.concatenate([surfaces, np.array(numbers, dtype=np.int64)])
        order = np.lexsort((at, of))
        of, at = of[order], at[order]
        again = (np.diff(of, prepend=-1) == 0) & (np.diff(at, prepend=-1) == 0)  # a word that a surface has twice
        self._numbers = at[~again]
        self._ends = np.cumsum(np.bincount(of[~again], minlength=len(self._codes)))

    def numbers(self, component: str) -> list[int]:
        """The surfaces with this component, by their place in ``keys``."""
        code = self._codes.get(component)
        if code is None:
            return []
        start = self._ends[code - 1] if code else 0
        found: list[int] = self._numbers[start : self._ends[code]].tolist()
        return found

    def find(self, words: Sequence[str], free: Sequence[bool]) -> Iterator[tuple[int, int]]:
        """First word and word after the last of every component among the ``free`` words; they may overlap."""
        for first, word in enumerate(words):
            if not free[first]:
                continue
            if word in self._codes:
                yield first, first + 1
            if word in self._first:
                for last in (first + size for size in _CHARACTERS):
                    if all(free[first:last]) and BREAK.join(words[first:last]) in self._codes and last <= len(words):
                        yield first, last


def has_long_words(characters: int, words: int) -> bool:
    """Whether the words of a key of so many characters are more than single characters."""
    return characters >= 2 * words


def _edges(words: Sequence[str]) -> set[str]:
    sizes = [size for size in _CHARACTERS if size < len(words)]
    return {BREAK.join(edge) for size in sizes for edge in (words[:size], words[-size:])}


def _words(keys: Sequence[str]) -> tuple[_Numbers, _Numbers, list[str]]:
    """The words that are components: number of the word, number of the surface, and the words by number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.array(keys, pa.large_string())
    split = pc.split_pattern(table, BREAK)
    counts = np.diff(np.asarray(split.offsets))
    lengths = np.asarray(pc.utf8_length(table))
    words = split.flatten()
    rows = np.repeat(np.arange(len(keys)), counts)
    long = (counts > 1) & (lengths >= 2 * counts)
    good = np.asarray(pc.utf8_length(words)) > 1
    good &= long[rows] & np.asarray(pc.match_substring_regex(words, r"\p{L}"))
    encoded = words.filter(pa.array(good)).dictionary_encode()
    dictionary: list[str] = encoded.dictionary.to_pylist()
    codes = np.array(encoded.indices, dtype=np.int64)
    del table, split, words, encoded
    pa.default_memory_pool().release_unused()  # 40 MB of the shipped model's surfaces, which Arrow would keep
    return codes, rows[good].astype(np.int64), dictionary
