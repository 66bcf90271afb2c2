"""The base class of output formats: a head, one string per prediction, a tail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from retrieveall.types import Prediction

__all__ = ["Format", "Renderer", "blank_note"]


class Format(StrEnum):
    """The formats of ``retrieveall extract``."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    conll = "conll"
    html = "html"


def blank_note(blank: int, format: str) -> list[str]:
    """A line that ``blank`` texts are not in an output; none for 0."""
    if not blank:
        return []
    what = "1 text without words is" if blank == 1 else f"{blank:,} texts without words are"
    return [f"note: {what} not in the output, since {format} has no place for them; JSONL keeps every text"]


class Renderer(ABC):
    """Renders predictions one at a time, so that any number of them can be streamed."""

    def head(self) -> str:
        """Text before the first prediction."""
        return ""

    @abstractmethod
    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        """One prediction; ``fields`` are the input's other fields, such as an id, kept by JSONL, CSV and TSV."""

    def tail(self) -> str:
        """Text after the last prediction."""
        return ""

    def notes(self) -> list[str]:
        """What the user should know about the output."""
        return []

    def state(self) -> dict[str, Any]:
        """What ``restore`` of a new renderer needs to go on after the last prediction, as plain data."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027  # most formats have no state
        """Go on where another renderer stopped."""
