"""Plain text as sentences, and what its words and characters are like: the basis for telling names by rule."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from recipes.corpora import Lines
from retrieveall.data import segment
from retrieveall.types import Sentence

__all__ = [
    "CASED",
    "HAN_RUN",
    "WORD",
    "WORDS",
    "Counts",
    "characters",
    "count",
    "fits_length",
    "fold",
    "mentions_of",
    "pattern",
    "random_sentences",
    "read_lines",
    "sample",
    "sentences_of",
    "vary",
    "word_list",
]  # fmt: skip

CASED = ("en", "es", "fr", "ru", "de")
WORDS = Path(__file__).parent / "words"

WORD = re.compile(r"[^\W\d_]+")
HAN_RUN = re.compile(r"([ぁ-ん、。]?)([\u3400-\u9fff々]{2,6})(?![\u3400-\u9fff々])([^ァ-ヺ]?)")
_JUNK = re.compile(r"[@#*_=|<>\[\]{}\\/~^+%&$€£°§©®™()（）［］【】〈〉:;：；\ufffd\u200b]|\.\.\s|www|formula")
_END = re.compile(r"[.!?…。！？][\"”»’“]?$")
_SPLIT = re.compile(r"(?<=[.!?…])[\"”»’“]?\s+|(?<=[.!?…])(?=[—–]\s?[¿¡A-ZÀ-Ý])|(?<=[。！？])")
_ABBREVIATED = re.compile(r"\b(?:\d+|[^\W\d_]{1,3}|Prof|Frau|Herr|Mlle|Srta)\.$")
_ORDINAL = re.compile(r"\b\d{1,2}\.$")
_PAIRS = (("“", "”"), ("«", "»"), ("„", "“"), ("»", "«"))
_MODIFIER_ENDS = frozenset("のいなたるうん")
_MARKERS = frozenset("はがものにをとへや、さ")
_LONGEST_LINE = 4_000  # characters; the rest of a longer article is left out


@cache
def word_list(language: str) -> dict[str, list[str]]:
    """``words/LANGUAGE.yaml``; nothing for a language without one."""
    path = WORDS / f"{language}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def pattern(language: str, *names: str) -> re.Pattern[str]:
    """Any of the regular expressions in these lists of a language."""
    return re.compile("|".join(each for name in names for each in word_list(language)[name]))


def characters(language: str, name: str) -> str:
    """The characters in a list of a language."""
    return "".join(word_list(language)[name])


@cache
def fold() -> dict[int, int]:
    """For ``str.translate``: the most frequent traditional Chinese characters to simplified ones."""
    return str.maketrans(characters("zh", "traditional"), characters("zh", "simplified"))


@dataclass
class Counts:
    """What plain text tells about the words of its language.

    ``lower`` counts lower-cased words as written, ``inner`` capitalised ones that follow a lower-case word,
    ``indefinite`` those that follow an indefinite determiner (German), ``grams`` the lines that hold a pair
    of characters, ``stems`` the lines that hold a word or a beginning of it (Korean), ``runs`` runs of Han
    characters, ``modified`` and ``marked`` those of them after a modifier and before a particle (Japanese).
    """

    lower: Counter[str] = field(default_factory=Counter)
    inner: Counter[str] = field(default_factory=Counter)
    indefinite: Counter[str] = field(default_factory=Counter)
    grams: Counter[str] = field(default_factory=Counter)
    stems: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    modified: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)


def count(lines: list[str], language: str) -> Counts:
    """Counts over ``lines``; which of them depends on the language."""
    counts = Counts()
    indefinite = frozenset(word_list(language).get("indefinite", ()))
    for line in lines:
        if language in CASED:
            words = WORD.findall(line)
            counts.lower.update(word for word in words if word.islower())
            for left, right in zip(words, words[1:], strict=False):
                if left.islower() and right[0].isupper():
                    counts.inner[right] += 1
                    counts.indefinite[right] += left in indefinite
        elif language == "ko":
            words = WORD.findall(line)
            counts.stems.update({word[:end] for word in words for end in range(1, len(word) + 1)})
        else:
            text = line.translate(fold()) if language == "zh" else line
            counts.grams.update({a + b for a, b in zip(text, text[1:], strict=False)})
            for before, run, after in HAN_RUN.findall(line) if language == "ja" else ():
                counts.runs[run] += 1
                counts.modified[run] += before in _MODIFIER_ENDS
                counts.marked[run] += not after or after in _MARKERS
    return counts


def read_lines(text: Lines, language: str) -> list[str]:
    """The lines of a language, composed and cut to what is looked at."""
    return [unicodedata.normalize("NFC", line[:_LONGEST_LINE].strip()) for line in text.of(language)]


def sample(lines: list[str], size: int, rng: random.Random) -> list[str]:
    """Up to ``size`` of the lines."""
    return rng.sample(lines, min(len(lines), size))


def mentions_of(sentences: list[Sentence]) -> Counter[str]:
    """How often each mention occurs."""
    return Counter(entity.text for sentence in sentences for entity in sentence.entities)


def fits_length(text: str) -> bool:
    """Whether a sentence has 5 to 40 words."""
    return 5 <= sum(word.text.isalnum() for word in segment(text)) <= 40


def sentences_of(line: str) -> Iterator[str]:
    """Full sentences with paired quotation marks and nothing technical in them."""
    before = ""
    start = 0
    for end in [*(match.end() for match in _SPLIT.finditer(line)), len(line)]:
        text, previous = line[start:end].strip(), before
        before, start = text, end
        if (
            not _END.search(text)
            or _ABBREVIATED.search(previous)
            or _ORDINAL.search(text)
            or _JUNK.search(text)
            or not WORD.search(text)
        ):
            continue
        if text.count('"') % 2 or sum(map(str.isdigit, text)) > 4:
            continue
        paired = any(text.count(a) == text.count(b) > 0 for a, b in _PAIRS)
        if paired or not any(mark in text for mark in "“”„«»"):
            yield text


def vary(text: str, rng: random.Random, marks: str, *, cased: bool) -> str:
    """One sentence in thirteen lower-cased where there is case, one in thirteen without the ``marks`` at its end."""
    draw = rng.random()
    if draw < 0.075:
        return text.lower() if cased and len(text.lower()) == len(text) else text
    return text.rstrip(marks) if draw < 0.15 else text


def random_sentences(text: Lines, language: str, rng: random.Random) -> Iterator[str]:
    """Sentences of the lines in random order, each once."""
    lines = read_lines(text, language)
    seen: set[str] = set()
    for line in rng.sample(lines, len(lines)):
        for sentence in sentences_of(line):
            if fits_length(sentence) and sentence not in seen:
                seen.add(sentence)
                yield sentence
