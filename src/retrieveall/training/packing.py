"""Packed rows: sequences of many lengths in rows of one length, so that hardly a token is padding.

A row holds several sequences; attention stays inside each, and positions begin anew. Which sequences stand in which
row depends on their lengths and a seed only, so that a resumed run sees the batches that an uninterrupted one would
have seen. Knows lengths and numbers, neither text nor models.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Layout", "RunPlan", "plan_rows", "similar_rows"]

Ints: TypeAlias = npt.NDArray[Any]
T = TypeVar("T")

_OPEN = 64
"""Rows that are filled at the same time: with more of them less is padded, and neighbours in the order spread more."""


def plan_rows(lengths: Ints, order: Sequence[int], row_length: int) -> list[list[int]]:
    """Rows of sequence numbers in about the order given: each goes where the least room is left that it fits into.

    A sequence longer than ``row_length`` gets a row of its own.
    """
    rows: list[list[int]] = []
    # The room that is left, a number that makes entries differ, the sequences; by room.
    open_rows: list[tuple[Any, ...]] = []
    numbers = count()
    for i in order:
        size = int(lengths[i])
        slot = bisect_left(open_rows, (size,))  # the first with room enough
        room, row = row_length, []
        if slot < len(open_rows):
            room, _, row = open_rows.pop(slot)
        elif len(open_rows) == _OPEN:
            rows.append(open_rows.pop(0)[2])
        row.append(i)
        insort(open_rows, (room - size, next(numbers), row))
    return rows + [row for _, _, row in open_rows]


def similar_rows(lengths: Ints, order: Sequence[int], rows: int) -> list[list[int]]:
    """Rows of one sequence each, ``rows`` neighbours at a time of similar length, for backbones that take no packs."""
    stretch = 50 * rows
    return [
        [i]
        for first in range(0, len(order), stretch)
        for i in sorted(order[first : first + stretch], key=lambda i: int(lengths[i]))
    ]


class RunPlan(Generic[T]):
    """The batches of all epochs of a run, by number: ``self[k]`` is the epoch of batch ``k`` and its plan.

    Args:
        plan: the batches of an epoch, the same whenever it is asked.
        epochs: how often the data is seen; of the last one perhaps a part.
        batches: how many there are in all, in place of ``epochs``.
    """

    def __init__(self, plan: Callable[[int], Sequence[T]], *, epochs: float = 1.0, batches: int | None = None) -> None:
        self._plan = lru_cache(maxsize=2)(plan)
        self.ends: list[int] = []
        """The number of batches up to the end of each epoch."""
        total = 0
        while total < batches if batches else len(self.ends) < epochs:
            size = len(self._plan(len(self.ends)))
            if not size:
                raise ValueError("expected at least one batch an epoch, got none")
            share = 1.0 if batches else min(1.0, epochs - len(self.ends))
            total += math.ceil(size * share)
            self.ends.append(total)
        if batches:
            self.ends[-1] = batches

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> tuple[int, T]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        epoch = bisect_right(self.ends, number)
        return epoch, self._plan(epoch)[number - (self.ends[epoch - 1] if epoch else 0)]


class Layout:
    """Rows of sequences as arrays int64 [rows, length].

    ``segments`` number the sequences of a row from 1, 0 is padding; ``places`` count the tokens of each from 0.

    ``offsets`` are, sequence by sequence, the places of their first tokens in the flattened rows.
    """

    def __init__(self, lengths: Sequence[Sequence[int]], row_length: int | None = None) -> None:
        longest = max((sum(row) for row in lengths), default=0)
        width = max(math.ceil(longest / 8) * 8, 8) if row_length is None else max(row_length, longest)
        self.segments = np.zeros((len(lengths), width), dtype=np.int64)
        self.places = np.zeros_like(self.segments)
        self.offsets: list[int] = []
        for r, row in enumerate(lengths):
            first = 0
            for number, size in enumerate(row, start=1):
                self.segments[r, first : first + size] = number
                self.places[r, first : first + size] = np.arange(size)
                self.offsets.append(r * width + first)
                first += size

    def fill(self, sequences: Iterator[Ints], padding: int) -> Ints:
        """The tokens of the rows, int64 [rows, length]."""
        flat = np.full(self.segments.size, padding, dtype=np.int64)
        for offset, ids in zip(self.offsets, sequences, strict=True):
            flat[offset : offset + len(ids)] = ids
        return flat.reshape(self.segments.shape)
