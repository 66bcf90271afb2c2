"""What every output format is: a head, one piece a prediction, a tail. Strings only; who writes them is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from retrieveall.types import Prediction

__all__ = ["Format", "Renderer"]


class Format(StrEnum):
    """The formats of ``retrieveall extract``."""

    table = "table"
    jsonl = "jsonl"
    conll = "conll"
    html = "html"


class Renderer(Protocol):
    """Predictions to text, one at a time, so that any number of them streams in bounded memory."""

    def head(self) -> str:
        """What stands before the first prediction."""
        ...

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        """One prediction; ``fields`` came with its text, such as an id, and only JSONL keeps them."""
        ...

    def tail(self) -> str:
        """What stands after the last prediction."""
        ...
