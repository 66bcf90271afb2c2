"""The BIOES tag set of a label set, and conversion between spans and tags.

A span of one word is S, a longer one B I* E.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieveall.data import check_label

__all__ = ["OUTSIDE", "TagSet"]

OUTSIDE = 0
"""Index of the tag O in every tag set."""

_POSITIONS = "BIES"


@dataclass(frozen=True)
class TagSet:
    """The tags of ``labels`` in fixed order: O, then B, I, E, S of the first label, and so on."""

    labels: tuple[str, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        return ("O", *(f"{position}-{label}" for label in self.labels for position in _POSITIONS))

    def __len__(self) -> int:
        return 1 + 4 * len(self.labels)

    def index(self, position: str, label: str) -> int:
        return 1 + 4 * self.labels.index(label) + _POSITIONS.index(position)

    def columns(self, position: str) -> npt.NDArray[np.int64]:
        """int [labels]: indices of the tags with prefix ``position`` (B, I, E or S), in label order."""
        return np.arange(len(self.labels), dtype=np.int64) * 4 + 1 + _POSITIONS.index(position)

    @cached_property
    def edges(self) -> npt.NDArray[np.bool_]:
        """bool [tags]: tags of a word that begins or ends a span."""
        return np.array([tag[0] in "BES" for tag in self.tags])

    def encode(self, spans: Iterable[tuple[int, int, str]], length: int) -> list[int]:
        """Tag indices of ``length`` words for (start, end, label) word spans, end exclusive.

        Raises:
            InputError: a label outside this set.
        """
        tags = [OUTSIDE] * length
        for start, end, label in spans:
            check_label(label, self.labels)
            if end - start == 1:
                tags[start] = self.index("S", label)
            else:
                tags[start:end] = [self.index("I", label)] * (end - start)
                tags[start] = self.index("B", label)
                tags[end - 1] = self.index("E", label)
        return tags

    def decode(self, tags: Sequence[int]) -> list[tuple[int, int, str]]:
        """The (start, end, label) word spans of a well-formed tag sequence, end exclusive."""
        spans: list[tuple[int, int, str]] = []
        start = 0
        for i, tag in enumerate(tags):
            if tag == OUTSIDE:
                continue
            label, position = self.labels[(tag - 1) // 4], _POSITIONS[(tag - 1) % 4]
            if position in "BS":
                start = i
            if position in "ES":
                spans.append((start, i + 1, label))
        return spans
