"""The protocol of engines: score candidate tokens at positions of a prompt, or generate an answer.

An engine sees token ids, not retrieval, tags or entities. A failed request gives a ``Failure`` in its place; the
others keep their results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

from retrieveall.config import Spacing
from retrieveall.tokens import TokenCodec

__all__ = ["Engine", "Failure", "ScoreRequest", "Scores", "WriteRequest", "Written"]

Scores: TypeAlias = npt.NDArray[Any]
"""float32 [positions, candidates]: logits, or log-probabilities up to a constant per row."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason, in one line, why a request has no result."""

    reason: str


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score each of the tokens ``candidates`` as the next token at each of ``positions``.

    ``adapters`` maps adapter names to weights; empty for the backbone alone.
    """

    ids: Sequence[int]
    positions: Sequence[int]
    candidates: Sequence[int]
    adapters: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Generate an answer about ``text`` after the tokens ``ids``, of at most ``max_tokens``.

    If ``constrained``, under the grammar of ``retrieveall.answers`` for ``labels`` and ``spacing``.
    """

    ids: Sequence[int]
    text: str
    adapters: Mapping[str, float]
    labels: tuple[str, ...]
    spacing: Spacing
    max_tokens: int
    constrained: bool = True


@dataclass(frozen=True, slots=True)
class Written:
    """An answer of ``tokens`` tokens, with the log-probability of each line in ``lines``.

    ``ended``: the model wrote an end token; otherwise the incomplete last line is not in ``answer``.
    """

    answer: str = ""
    lines: tuple[float, ...] = ()
    tokens: int = 0
    ended: bool = True
    constrained: bool = True


class Engine(Protocol):
    """Runs a backbone with its adapters, in this process or elsewhere."""

    @property
    def codec(self) -> TokenCodec:
        """The tokenizer of the backbone."""
        ...

    @property
    def unforkable(self) -> str | None:
        """The reason why a forked process cannot use this engine; None if it can."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """The scores of each request, in order."""
        ...

    def write(self, requests: Sequence[WriteRequest]) -> list[Written | Failure]:
        """The answer to each request, in order."""
        ...

    def refresh(self) -> None:
        """Pick up adapters added to, changed in or removed from the model folder."""
        ...

    def close(self) -> None:
        """Release connections and temporary files; the engine cannot be used afterwards."""
        ...
