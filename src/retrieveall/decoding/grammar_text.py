"""One text as an answer may copy it: its words in bytes, and the tokens that they begin with.

Knows bytes and tokens, not labels or the form of an answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieveall.decoding.answers import Mentions, Spacing
from retrieveall.decoding.grammar_tokens import TokenTable

__all__ = ["BARRIER", "First", "WritableText"]

BARRIER = b"\xff"
"""Stands in the written text for a word that the vocabulary cannot spell: no UTF-8 has this byte."""


@dataclass(frozen=True, slots=True)
class First:
    """``tokens`` that a mention can begin with and the ``last`` place of the text for each; ``breaking`` ones are whole
    mentions with a line break.
    """

    tokens: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    breaking: tuple[int, ...]


class WritableText:
    """What may be copied from one text: the words as they are written, in bytes, and where they begin and end."""

    def __init__(self, table: TokenTable, text: str, spacing: Spacing) -> None:
        self.mentions = Mentions(text)
        self._table = table
        parts: list[bytes] = []
        starts: list[int] = []
        ends: list[int] = []
        self.numbers: list[int] = []  # of the words that the vocabulary can spell
        size = 0
        for number, form in enumerate(self.mentions.forms):
            gap = self.mentions.gap(number, spacing).encode()
            if table.can_write(form):
                written = gap + form.encode()
                starts.append(size + len(gap))
                ends.append(size + len(written))
                self.numbers.append(number)
            else:
                written = BARRIER
            parts.append(written)
            size += len(written)
        self.written = b"".join(parts)
        self.starts, self.ends = starts, ends
        self._is_end = bytearray(size + 1)
        for end in ends:
            self._is_end[end] = 1

    def is_end(self, offset: int) -> int:
        """1 where a word ends before the byte ``offset``, else 0."""
        return self._is_end[offset]

    def word_end(self, offset: int) -> int:
        """Where the word ends that the byte ``offset`` belongs to, or the gap before it."""
        return self.ends[bisect_right(self.ends, offset)]

    def word_start(self, offset: int) -> int:
        """Where what is written for that word begins, the space before it included."""
        number = bisect_right(self.ends, offset)
        start = self.starts[number]
        return start - 1 if self.written[start - 1 : start] == b" " else start

    @property
    def last(self) -> int:
        """The last word that can be written, -1 where there is none."""
        return self.numbers[-1] if self.numbers else -1

    def matching(self, starts: Iterable[int], size: int, copied: bytes) -> tuple[int, ...]:
        """Those of ``starts`` that ``copied`` follows after ``size`` bytes."""
        written = self.written
        return tuple([start for start in starts if written.startswith(copied, start + size)])

    def first_from(self, number: int) -> int:
        """Where the first word from ``number`` on begins."""
        return self.starts[bisect_left(self.numbers, number)]

    def from_word(self, number: int) -> list[int]:
        """Where the words from ``number`` on begin."""
        return self.starts[bisect_left(self.numbers, number) :]

    def tokens_at(self, offsets: Sequence[int]) -> tuple[set[int], set[int]]:
        """All tokens that the text from one of ``offsets`` on begins with, without a line break and with one."""
        if len(offsets) > 1:  # many may read the same
            ahead = self._table.widest
            written, is_end = self.written, self._is_end
            same = {(written[each : each + ahead], bytes(is_end[each : each + ahead])): each for each in offsets}
            offsets = list(same.values())
        tokens = {token for each in offsets for token in self._plain(each, b"")}
        return tokens, {token for each in offsets for token in self._breaking(each, b"")}

    def _plain(self, offset: int, lead: bytes) -> tuple[int, ...]:
        """The tokens that ``lead`` and the text from ``offset`` on begin with."""
        table = self._table
        piece = lead + self.written[offset : offset + table.widest]
        return table.beginnings(piece[: table.ahead(piece)])

    def _breaking(self, offset: int, lead: bytes) -> Sequence[int]:
        """The tokens that the same with a line break after a word begins with."""
        table = self._table
        room = table.before_break.get(lead or self.written[offset : offset + 1], 0) - len(lead)
        if room <= 0:
            return ()
        first, found = bisect_right(self.ends, offset), []
        for end in self.ends[first : first + room]:
            if end - offset > room:
                break
            if (token := table.ids.get(lead + self.written[offset:end] + b"\n")) is not None:
                found.append(token)
        return found

    @cached_property
    def first_spaced(self) -> First:
        return self._first(b" ")

    @cached_property
    def first_bare(self) -> First:
        return self._first(b"")

    def _first(self, lead: bytes) -> First:
        last: dict[int, int] = {}
        breaking: set[int] = set()
        for start in self.starts:
            for token in self._plain(start, lead):
                last[token] = start
            breaking.update(self._breaking(start, lead))
        return First(np.array(list(last), dtype=np.int64), np.array(list(last.values())), tuple(breaking))
