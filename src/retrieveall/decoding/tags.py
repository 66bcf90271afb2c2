"""The tag set of a label set: which tags there are, which may follow which, and spans <-> tags.

BIOES: a span of one word is S, a longer one B I* E. The transitions of this scheme are what Viterbi enforces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieveall.errors import InputError

__all__ = ["OUTSIDE", "TagSet"]

OUTSIDE = 0
"""Index of the tag O in every tag set."""

_POSITIONS = "BIES"


@dataclass(frozen=True)
class TagSet:
    """Tags of ``labels`` in fixed order: O, then B, I, E, S of the first label, and so on."""

    labels: tuple[str, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        return ("O", *(f"{position}-{label}" for label in self.labels for position in _POSITIONS))

    def __len__(self) -> int:
        return 1 + 4 * len(self.labels)

    def index(self, position: str, label: str) -> int:
        return 1 + 4 * self.labels.index(label) + _POSITIONS.index(position)

    def columns(self, position: str) -> npt.NDArray[np.int64]:
        """int [labels]: indices of the tags at ``position``, one of B, I, E and S, of all labels in order."""
        return np.arange(len(self.labels), dtype=np.int64) * 4 + 1 + _POSITIONS.index(position)

    @cached_property
    def starts(self) -> npt.NDArray[np.bool_]:
        """bool [tags]: which tags may begin a sentence."""
        return np.array([tag[0] in "OBS" for tag in self.tags])

    @cached_property
    def ends(self) -> npt.NDArray[np.bool_]:
        """bool [tags]: which tags may end a sentence."""
        return np.array([tag[0] in "OES" for tag in self.tags])

    @cached_property
    def transitions(self) -> npt.NDArray[np.bool_]:
        """bool [tags, tags]: ``transitions[i, j]`` tells whether j may follow i."""
        allowed = np.zeros((len(self), len(self)), dtype=bool)
        for i, before in enumerate(self.tags):
            for j, after in enumerate(self.tags):
                if before[0] in "OES":
                    allowed[i, j] = after[0] in "OBS"
                else:
                    allowed[i, j] = after[0] in "IE" and after[2:] == before[2:]
        return allowed

    def encode(self, spans: Iterable[tuple[int, int, str]], length: int) -> list[int]:
        """Tag indices of ``length`` words with the given (start, end, label) word spans, end exclusive.

        Raises:
            InputError: a label that is not of this set.
        """
        tags = [OUTSIDE] * length
        for start, end, label in spans:
            if label not in self.labels:
                raise InputError(
                    f"expected one of the labels {', '.join(self.labels)}, got {label!r}; "
                    "add it to the labels of the configuration or map it to one of them"
                )
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
