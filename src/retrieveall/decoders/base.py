"""The protocol of decoders: requests, training targets and results of tagging or generation.

A decoder returns labelled character spans with probabilities, so that no other module depends on its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from retrieveall.engines.base import Engine, Failure
from retrieveall.prompts import Prompt
from retrieveall.stages import Window
from retrieveall.types import AnswerFaults, Entity, Route

__all__ = ["Decoder", "Gold", "Reading", "Span", "Target", "gold_of"]

Gold: TypeAlias = Sequence[Entity]
"""The gold entities that touch a window, with offsets in ``Window.source.text``."""


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of ``Window.source.text``; ``probability`` is for exactly this span and label."""

    start: int
    end: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The entities that begin in the kept part of a window, by position. ``faults``: errors of a written answer."""

    spans: tuple[Span, ...] = ()
    faults: AnswerFaults | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A training example: at ``positions[i]`` of ``ids``, the correct candidate has index ``labels[i]``.

    ``words``: (first, last) token of each word that may be masked.
    """

    ids: list[int]
    positions: list[int]
    labels: list[int]
    words: list[tuple[int, int]] = field(default_factory=list)


class Decoder(Protocol):
    """Predicts the entities of windows with an engine."""

    @property
    def candidates(self) -> tuple[int, ...] | None:
        """The candidate tokens of the training loss; None for the whole vocabulary."""
        ...

    def decode(
        self, engine: Engine, windows: Sequence[Window], prompts: Sequence[Prompt], routes: Sequence[Route]
    ) -> list[Reading | Failure]:
        """Run the windows and decode the results, in order."""
        ...

    def target(self, window: Window, prompt: Prompt, gold: Gold) -> Target:
        """The training example of a window.

        Raises:
            InputError: a label that the model does not have.
        """
        ...


def gold_of(window: Window, entities: Iterable[Entity]) -> list[Entity]:
    """The entities that touch a window; ``entities`` are those of its text in normal form."""
    start, end = window.offset, window.offset + len(window.text)
    return [entity for entity in entities if entity.start < end and start < entity.end]
