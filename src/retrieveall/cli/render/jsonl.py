"""Predictions as JSON, one object per line. Fields of the input are kept unless the prediction has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrieveall.cli.render.base import Renderer
from retrieveall.data.jsonl import json_line
from retrieveall.data.plain_values import PlainValues
from retrieveall.types import Prediction

__all__ = ["JsonlRenderer"]


class JsonlRenderer(Renderer):
    """``{"text", "entities": [{"start", "end", "label", "text", "score"}], "route", "language"}``.

    Args:
        explain: add ``"knowledge"``, the retrieval results.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain
        self._values = PlainValues()

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        return json_line({**fields, **prediction.to_dict(knowledge=self._explain)}, self._values)

    def notes(self) -> list[str]:
        return self._values.notes()

    def state(self) -> dict[str, Any]:
        return {"values": self._values.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._values.restore(state.get("values", {}))
