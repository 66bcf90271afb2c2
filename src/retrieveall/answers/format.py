"""The answer format of generating models: one line per entity, in text order.

    PER Ada Lovelace
    LOC London

A line is a label, a space and the mention: in most vocabularies two tokens more than the mention, whose tokens equal
those in the text, where a space precedes them too. Lines are separated by line breaks; an empty answer means no
entities. A mention is a sequence of whole words (``retrieveall.data.segment``), so that "Ulm" never matches inside
"Ulmer". White space is not compared: words contain none, so the format's spaces and line breaks are unambiguous.

A line refers to the leftmost occurrence that begins after the mention of the previous line. If the same words occur
earlier and are no entity there, a line with the label ``O`` (not allowed in label sets) skips them:

    O Apple
    ORG Apple
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate

import regex

from retrieveall.config import Spacing
from retrieveall.data import segment, to_word_spans
from retrieveall.types import Entity

__all__ = ["SKIP", "Mentions", "ParsedAnswer", "parse_answer", "shown_text", "write_answer"]

SKIP = "O"
"""In place of a label: skip this mention, which is not an entity."""

_SEPARATOR = regex.compile(r"[\s\p{Cc}\p{Cs}]")
_SPACE = regex.compile(r"\s+")


def shown_text(text: str) -> str:
    """``text`` with spaces in place of white space, control characters and lone surrogates: same length and words."""
    return str(_SEPARATOR.sub(" ", text))


class Mentions:
    """The words of a text, to match mentions.

    Words are compared in normal form NFC, which several tokenizers produce, ignoring what separates them. ``words``
    holds the (start, end) of each word in the text, ``forms`` its written form.
    """

    def __init__(self, text: str) -> None:
        words = segment(shown_text(text))
        self.words = [(word.start, word.end) for word in words]
        self.forms = [unicodedata.normalize("NFC", word.text) for word in words]
        self._spaces = [word.space_before for word in words]
        self._joined = "".join(self.forms)
        self._offsets = [0, *accumulate(map(len, self.forms))]
        self._word_at = {offset: number for number, offset in enumerate(self._offsets)}

    def __len__(self) -> int:
        return len(self.words)

    def gap(self, number: int, spacing: Spacing) -> str:
        """The separator before word ``number``: a space or nothing."""
        return " " if spacing == "always" or self._spaces[number] else ""

    def written(self, first: int, last: int, spacing: Spacing) -> str:
        """The mention of words ``first`` to ``last`` (exclusive)."""
        rest = (self.gap(number, spacing) + self.forms[number] for number in range(first + 1, last))
        return self.forms[first] + "".join(rest)

    def find(self, mention: str, after: int) -> tuple[int, int] | None:
        """The leftmost (first, last + 1) words, from word ``after`` on, equal to ``mention``."""
        key = _SPACE.sub("", mention)
        at = self._next(key, self._offsets[after]) if key else -1
        while at >= 0:
            first, last = self._word_at.get(at), self._word_at.get(at + len(key))
            if first is not None and last is not None:
                return first, last
            at = self._next(key, self._offsets[bisect_right(self._offsets, at)])
        return None

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The (start, end) characters of the words ``first`` to ``last`` (exclusive)."""
        return self.words[first][0], self.words[last - 1][1]

    def cover(self, mention: str, after: int) -> tuple[int, int] | None:
        """As ``find``, but also for a ``mention`` that begins or ends inside a word: the words that contain it."""
        key = _SPACE.sub("", mention)
        at = self._next(key, self._offsets[after]) if key else -1
        if at < 0:
            return None
        return bisect_right(self._offsets, at) - 1, bisect_left(self._offsets, at + len(key))

    def _next(self, key: str, start: int) -> int:
        return self._joined.find(key, start)


def write_answer(text: str, entities: Iterable[Entity], spacing: Spacing = "as_is") -> str:
    """The answer for ``entities`` of ``text``, without an end token; the inverse of ``parse_answer``.

    An entity that begins or ends inside a word gets the whole word, as in the tagging decoder.
    """
    mentions = Mentions(text)
    lines = []
    position = 0
    for first, last, label in to_word_spans(segment(text), entities):
        mention = mentions.written(first, last, spacing)
        while (found := mentions.find(mention, position)) != (first, last) and found is not None:
            # An occurrence that overlaps the entity is skipped word by word.
            end = found[1] if found[1] <= first else found[0] + 1
            passed = mentions.written(found[0], end, spacing)
            lines.append(f"{SKIP} {passed}")
            position = (mentions.find(passed, position) or found)[1]
        lines.append(f"{unicodedata.normalize('NFC', label)} {mention}")
        position = last
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """``spans`` (start, end, label) are character offsets, by position, without overlap.

    ``lines[i]`` is the line number of span i. ``malformed`` lines are not of the form "label mention"; ``invented``
    mentions do not occur in the text (that often); ``unknown`` labels are not in the label set.
    """

    spans: tuple[tuple[int, int, str], ...] = ()
    lines: tuple[int, ...] = ()
    malformed: int = 0
    invented: int = 0
    unknown: int = 0


def parse_answer(answer: str, text: str, labels: Collection[str]) -> ParsedAnswer:
    """Parse ``answer`` about ``text``. Never raises.

    Repeated mentions are matched to occurrences from left to right. A mention that occurs only before the previous
    one is matched to a free occurrence there; one that occurs only inside words gets these words. A line with an
    unknown label still skips its mention.
    """
    reader = _Reader(text, labels)
    for number, line in enumerate(answer.rstrip("\n\r\t ").split("\n") if answer.strip() else ()):
        reader.read(number, line.strip())
    found = sorted(reader.found)
    return ParsedAnswer(
        tuple((*reader.mentions.span(first, last), label) for first, last, label, _ in found),
        tuple(line for *_, line in found),
        reader.malformed,
        reader.invented,
        reader.unknown,
    )


class _Reader:
    """Parses the lines of one answer in order and matches their mentions."""

    def __init__(self, text: str, labels: Collection[str]) -> None:
        self.mentions = Mentions(text)
        self.found: list[tuple[int, int, str, int]] = []  # first word, last word + 1, label, line
        self.malformed = self.invented = self.unknown = 0
        self._labels = {unicodedata.normalize("NFC", label): label for label in labels}
        self._position = 0
        self._taken = bytearray(len(self.mentions))
        self._missing: set[str] = set()  # mentions that were not found before

    def read(self, number: int, line: str) -> None:
        name, _, mention = line.partition(" ")
        if not mention.strip():
            self.malformed += 1
            return
        label = self._labels.get(unicodedata.normalize("NFC", name))
        if label is None and name != SKIP:
            self.unknown += 1
        run = self._allot(mention)
        if run is None:
            self.invented += 1
            return
        self._taken[run[0] : run[1]] = b"\1" * (run[1] - run[0])
        if label is not None and name != SKIP:
            self.found.append((*run, label, number))

    def _allot(self, mention: str) -> tuple[int, int] | None:
        if mention in self._missing:
            return None
        forms = dict.fromkeys((mention, unicodedata.normalize("NFC", mention)))
        for form in forms:  # always succeeds for a constrained answer
            if (run := self.mentions.find(form, self._position)) is not None:
                self._position = run[1]
                return run
        for form in forms:
            if (run := self._earlier(form)) is not None:
                return run
        for form in forms:
            if (run := self.mentions.cover(form, self._position)) is not None:
                self._position = run[1]
                return run
        self._missing.add(mention)
        return None

    def _earlier(self, mention: str) -> tuple[int, int] | None:
        # The word before the position is taken, so a free occurrence ends before it.
        run = self.mentions.find(mention, 0)
        while run is not None and any(self._taken[run[0] : run[1]]):
            run = self.mentions.find(mention, run[0] + 1)
        return run
