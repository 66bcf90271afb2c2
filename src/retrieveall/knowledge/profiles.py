"""How much a text looks like each language: a character model of every language, made from its own sentences.

Knows letters, not adapters, vectors or votes. A profile depends on nothing but the sentences of its language, not on
their order and not on how often they occur; at most ``_SENTENCES`` of them are counted, so that a large pool gives no
advantage.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller

import numpy as np
import numpy.typing as npt

__all__ = ["Looks", "Profile", "looks_like"]

_SENTENCES = 2000
_ORDER = 3
_ALPHABET = 5000  # letters that any language may use: what an unseen one has as its probability
_HELD_OUT = 5  # one sentence in so many measures how well others of its language are predicted
_LEAST = 2.0  # nats a letter below the usual: no word counts as more unusual, so that one foreign word decides nothing
_DRIFT = 0.03  # times the squared mean: how far texts of one language differ in nats a letter, however long
_LEAST_SPREAD = 2.0  # of a language with uniform or few sentences; with it a word of two letters is never unusual
_USED = 0.2  # share of a language's letters from which it uses a script
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_CHUNK_CHARACTERS = 1 << 17
_MAX_CHARACTERS = 1 << 12
_SPACE = ord(" ")
_UNMEASURED = -3.0, 3.0  # mean and spread of a language with one sentence
_ADDRESS = re.compile(r"\S*(?:://|www\.|@)\S*")

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Looks:
    """One text beside one language.

    ``likelihood``: log-probability of its letters. ``fit``: how far that is from what texts of the language have, in
    standard deviations, negative for less. ``foreign``: share of its letters in scripts that the language does not use.
    """

    likelihood: float
    fit: float
    foreign: float


class _Letters(dict[int, str]):
    """For ``str.translate``: letters and their marks stay, everything else becomes a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character.isalpha() or unicodedata.category(character)[0] == "M"
        self[code] = found = character if kept else " "
        return found


_LETTERS = _Letters()


def letters_of(text: str) -> str:
    """The words of ``text`` in lower case with one space between: no digits, signs or addresses."""
    text = text[:_MAX_CHARACTERS]
    if "@" in text or "://" in text or "www." in text:
        text = _ADDRESS.sub(" ", text)
    return " ".join(text.lower().translate(_LETTERS).split())


class _Grams:
    """All n-grams of some texts of letters, by the position of their last character.

    ``keys[n]`` are hashes of n-grams; the first n - 1 characters of one are ``keys[n - 1]`` a position before.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        padded = [f" {text} " for text in texts]
        lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
        joined = "".join(padded).encode("utf-32-le", "surrogatepass")
        self.codes: npt.NDArray[np.uint32] = np.frombuffer(joined, dtype=np.uint32)
        self.scripts = _scripts(self.codes)
        self.rows = np.repeat(np.arange(len(padded)), lengths)
        self.places = np.arange(len(self.codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self.keys: list[Keys] = [np.zeros(len(self.codes), dtype=np.uint64)]
        for _ in range(_ORDER):
            key = (self.before(self.keys[-1]) + self.codes + np.uint64(1)) * _MULTIPLIER
            self.keys.append(key ^ (key >> np.uint64(29)))

    @staticmethod
    def before(key: Keys) -> Keys:
        """Each value at the next position."""
        return np.concatenate([np.zeros(1, dtype=np.uint64), key])[: len(key)]

    def counted(self, order: int) -> npt.NDArray[np.bool_]:
        """Where a whole n-gram ends that is predicted; the space before a text is not."""
        return self.places >= max(order - 1, 1)


@dataclass
class _Counts:
    """N-grams of one order with their counts, and their beginnings with how often and by how many they go on."""

    keys: Keys
    counts: Numbers
    contexts: Keys
    totals: Numbers
    types: Numbers

    @classmethod
    def of(cls, grams: _Grams, order: int) -> _Counts:
        ends = grams.counted(order)
        keys, first, counts = np.unique(grams.keys[order][ends], return_index=True, return_counts=True)
        contexts, inverse = np.unique(grams.before(grams.keys[order - 1])[ends][first], return_inverse=True)
        totals = np.bincount(inverse, counts, len(contexts)).astype(np.float64)
        return cls(keys, counts.astype(np.float64), contexts, totals, np.bincount(inverse).astype(np.float64))


class Profile:
    """An interpolated character trigram model (Witten and Bell 1991) of one language.

    ``P(c | ab) = (n(abc) + t(ab) P(c | b)) / (n(ab) + t(ab))``, with ``t`` the number of different continuations, down
    to ``P(c) = 1 / 5000``.

    Args:
        texts: its sentences.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        texts = set(texts)
        self.different = len(texts)
        """Number of different sentences."""
        chosen = _sample(texts)
        self._scripts = _scripts_of(chosen)
        held_out = chosen[::_HELD_OUT] if len(chosen) > 1 else []
        self._orders = _count([text for number, text in enumerate(chosen) if not held_out or number % _HELD_OUT])
        self._mean, self._spread = self._usual(held_out)
        if held_out and len(chosen) < _SENTENCES // 2:  # a small language needs every sentence
            self._orders = _count(chosen)

    def compare(self, grams: _Grams, number: int) -> list[Looks]:
        """How much each of the ``number`` texts of ``grams`` looks like this language."""
        logs = np.log(self._probabilities(grams))
        likelihood = np.bincount(grams.rows, np.where(grams.places >= 1, logs, 0.0), number)
        unusual, size = self._unusual(grams, logs, number)
        fit: Numbers = unusual / np.sqrt(self._spread**2 * np.maximum(size, 1) + (_DRIFT * self._mean**2 * size) ** 2)
        letters = grams.codes != _SPACE
        foreign = np.bincount(grams.rows, letters & self._is_foreign(grams), number).astype(np.float64)
        foreign /= np.maximum(np.bincount(grams.rows, letters, number), 1)
        return [Looks(*each) for each in zip(likelihood.tolist(), fit.tolist(), foreign.tolist(), strict=True)]

    def _probabilities(self, grams: _Grams) -> Numbers:
        found = np.full(len(grams.codes), 1 / _ALPHABET)
        for order, of in enumerate(self._orders, 1):
            if not len(of.keys):
                break
            context = _look_up(of.contexts, grams.before(grams.keys[order - 1]))
            known = (context >= 0) & grams.counted(order)
            key = _look_up(of.keys, grams.keys[order])
            count = np.where(key >= 0, of.counts[key], 0.0)
            types = of.types[context]
            found = np.where(known, (count + types * found) / (of.totals[context] + types), found)
        return found

    def _usual(self, held_out: Sequence[str]) -> tuple[float, float]:
        """Mean log-probability of a letter of such texts, and the standard deviation of a text's sum by its length."""
        if not held_out:
            return _UNMEASURED
        grams = _Grams(held_out)
        logs = np.log(self._probabilities(grams))
        self._mean = float(logs[grams.places >= 1].mean())
        unusual, size = self._unusual(grams, logs, len(held_out))
        return self._mean, max(float(np.sqrt(np.mean(unusual**2 / np.maximum(size, 1)))), _LEAST_SPREAD)

    def _unusual(self, grams: _Grams, logs: Numbers, number: int) -> tuple[Numbers, Numbers]:
        """By how much each text is likelier than usual, and its size in characters, over what is in scripts of the
        language; no word counts as less than ``-_LEAST`` a letter.
        """
        own = (grams.places >= 1) & ~self._is_foreign(grams)
        spaces = grams.codes == _SPACE
        words = np.cumsum(spaces) - spaces  # the space after a word belongs to it, that before a text to none
        size = np.bincount(words, own)
        excess = np.bincount(words, np.where(own, logs - self._mean, 0.0))
        texts = np.zeros(len(size), dtype=np.int64)
        texts[words] = grams.rows
        unusual = np.bincount(texts, np.maximum(excess, -_LEAST * size), number).astype(np.float64)
        return unusual, np.bincount(texts, size, number).astype(np.float64)

    def _is_foreign(self, grams: _Grams) -> npt.NDArray[np.bool_]:
        foreign: npt.NDArray[np.bool_] = ~np.isin(grams.scripts, self._scripts) & (grams.codes != _SPACE)
        return foreign


def looks_like(profiles: Mapping[str, Profile], texts: Sequence[str]) -> list[dict[str, Looks]]:
    """Each text beside each language; without an entry where a text has no letters."""
    found: list[dict[str, Looks]] = []
    for some in _chunks([letters_of(text) for text in texts]):
        grams = _Grams(some)
        compared = {language: profile.compare(grams, len(some)) for language, profile in profiles.items()}
        found += [
            {language: looks[number] for language, looks in compared.items()} if text else {}
            for number, text in enumerate(some)
        ]
    return found


def _sample(texts: Iterable[str]) -> list[str]:
    """Different texts of letters, in an order that depends on nothing but themselves."""
    every = list(texts)
    encoded = map(methodcaller("encode", "utf-8", "surrogatepass"), every)
    hashes = np.array(list(map(zlib.crc32, encoded)), np.uint32)
    # Pairs of only those that can be among the smallest.
    limit = np.partition(hashes, _SENTENCES)[_SENTENCES] if len(hashes) > _SENTENCES else np.uint32(0xFFFFFFFF)
    hashed = [(int(hashes[i]), every[i]) for i in np.flatnonzero(hashes <= limit).tolist()]
    chosen = sorted(hashed)[:_SENTENCES]
    return list(dict.fromkeys(letters for _, text in chosen if (letters := letters_of(text))))


def _count(texts: Sequence[str]) -> list[_Counts]:
    grams = _Grams(texts)
    return [_Counts.of(grams, order) for order in range(1, _ORDER + 1)]


def _scripts_of(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """The scripts that hold a fair share of the letters."""
    joined = "".join(texts).replace(" ", "")
    letters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    scripts, counts = np.unique(_scripts(letters), return_counts=True)
    return scripts[counts >= _USED * max(len(letters), 1)]


def _scripts(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A number for the script of each letter: its block of 256 code points; Han and Hangul have many, so one each."""
    blocks: npt.NDArray[np.uint32] = codes >> np.uint32(8)
    blocks[(blocks >= 0x34) & (blocks <= 0x9F)] = 0x4E
    blocks[(blocks >= 0xAC) & (blocks <= 0xD7)] = 0xAC
    blocks[(codes < 0x370) | (blocks == 0x1E)] = 0  # Latin, its extensions and its marks
    return blocks


def _look_up(table: Keys, keys: Keys) -> npt.NDArray[np.int64]:
    """The place of each key in the sorted table; -1 where it is not there."""
    if not len(table):
        return np.full(len(keys), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[places] == keys, places, -1)


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start, size = 0, 0
    for number, text in enumerate(texts, 1):
        size += len(text) + 2
        if size >= _CHUNK_CHARACTERS or number == len(texts):
            yield texts[start:number]
            start, size = number, 0
