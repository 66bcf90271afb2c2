"""The protocol of output formats: a head, one string per prediction, a tail."""

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
    """Renders predictions one at a time, so that any number of them can be streamed."""

    def head(self) -> str:
        """Text before the first prediction."""
        ...

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        """One prediction; ``fields`` are the input's other fields, such as an id, kept by JSONL only."""
        ...

    def tail(self) -> str:
        """Text after the last prediction."""
        ...
