"""Words that differ in their endings: cases, particles, plurals.

Knows no language and no list of endings: two words are near when they begin alike and what follows is short.
Words of one character, numbers and punctuation are near to themselves only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retrieveall.knowledge.words import WordTable

__all__ = ["similarity", "spellings", "stem", "stem_sizes"]

_LETTERS = 4  # that two near words have in common at least
_SYLLABLES = 2  # the same where a letter is a syllable (Hangul)
_SYLLABLE_RANGE = "가", "힣"
_KNOWN_ENDING = 2  # letters of the known word, at most, that follow the common beginning
_ENDING = 3  # the same for the word in the text
_ENDINGS = 2  # letters of both together, where the known name is a single word; with more it is another name


def stem(word: str) -> str:
    """A known word, case-folded, without its last letters, as far as enough remain.

    It is one of the ``spellings`` of every word that is near to it.
    """
    size = len(word)
    if size < _SYLLABLES or not word.isalpha():
        return word
    return word[: max(min(size, _least(word)), size - _KNOWN_ENDING)]


def stem_sizes(table: WordTable) -> npt.NDArray[np.int64]:
    """The length of the ``stem`` of each word of a table."""
    least = np.where(table.begins_with(*_SYLLABLE_RANGE), _SYLLABLES, _LETTERS)
    shorter = np.maximum(np.minimum(table.sizes, least), table.sizes - _KNOWN_ENDING)
    whole = (table.sizes < _SYLLABLES) | ~table.alphabetic(all_of_it=True)
    return np.where(whole, table.sizes, shorter)


def spellings(word: str) -> tuple[str, ...]:
    """The stems of all known words that a case-folded word of a text could be near to."""
    size = len(word)
    if size < _SYLLABLES or not word.isalpha():
        return (word,)
    shortest = max(min(size, _least(word)), size - _KNOWN_ENDING - _ENDING)
    return tuple(word[:end] for end in range(size, shortest - 1, -1))


def similarity(words: Sequence[str], known: Sequence[str]) -> float:
    """Dice coefficient of the letters that agree, from the left in each word; 0 where a word is not near."""
    if len(words) != len(known):
        return 0.0
    common = total = 0
    for word, other in zip(words, known, strict=True):
        alike = _common(word, other)
        if alike < 0:
            return 0.0
        common += alike
        total += len(word) + len(other)
    if len(words) == 1 and total - 2 * common > _ENDINGS:
        return 0.0
    return 2 * common / total


def _least(word: str) -> int:
    """Letters that must agree before an ending may differ."""
    first, last = _SYLLABLE_RANGE
    return _SYLLABLES if first <= word[0] <= last else _LETTERS


def _common(word: str, known: str) -> int:
    """Letters that two near words begin with alike, in the same case; -1 where they are not near."""
    if word == known:
        return len(word)
    if not (word.isalpha() and known.isalpha()):
        return -1
    shorter = min(len(word), len(known))
    alike = next((i for i in range(shorter) if word[i] != known[i]), shorter)
    near = alike >= _least(known) and len(known) - alike <= _KNOWN_ENDING and len(word) - alike <= _ENDING
    return alike if near else -1
