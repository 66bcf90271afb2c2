"""What the pipeline asks of whoever runs the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from retrieveall.prompts import ChatFrame, Piece, Prompt
from retrieveall.types import Word

__all__ = ["Engine", "GenerateRequest", "Generated", "TagRequest"]


@dataclass(frozen=True, slots=True)
class TagRequest:
    """One window of text to be tagged: its prompt, its words, and the weight of each adapter."""

    prompt: Prompt
    words: Sequence[Word]
    adapters: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One window of text to be answered: its prompt, its text as it stands in the document, its words, the adapters."""

    prompt: Prompt
    text: str
    words: Sequence[Word]
    adapters: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote about one window.

    ``spans`` are (first character, character after the last, label, probability) in ``GenerateRequest.text``, by
    position. ``answer`` is the text as written. The counts are zero for a constrained answer: ``malformed`` lines that
    do not parse, ``invented`` mentions that are not in the text (or not that often), ``unknown`` labels.
    """

    spans: Sequence[tuple[int, int, str, float]]
    answer: str
    malformed: int = 0
    invented: int = 0
    unknown: int = 0


class Engine(Protocol):
    """Runs the model. Knows prompts and adapters by name, not retrieval, votes or entities."""

    def count(self, piece: Piece) -> int:
        """Tokens of a piece of a prompt."""
        ...

    def count_words(self, words: Sequence[Word]) -> int:
        """Tokens that the copies of the text take."""
        ...

    def chat_frame(self) -> ChatFrame | None:
        """What stands around the prompt; None without ``prompt.chat``."""
        ...

    def tag(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[Any]]:
        """Log-probabilities [words, tags] of each request, in order, whatever the order they run in."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Generated]:
        """The answer to each request, in order, whatever the order they run in."""
        ...
