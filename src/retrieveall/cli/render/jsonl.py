"""Predictions as JSON, one object per line. Fields of the input are kept unless the prediction has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from retrieveall.cli.render.base import Renderer
from retrieveall.types import Prediction

__all__ = ["JsonlRenderer"]


class JsonlRenderer(Renderer):
    """``{"text", "entities": [{"start", "end", "label", "text", "score"}], "route", "language"}``.

    Args:
        explain: add ``"knowledge"``, the retrieval results.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        record = {**fields, **prediction.to_dict(knowledge=self._explain)}
        line = json.dumps(record, ensure_ascii=False, default=str)
        try:
            line.encode()
        except UnicodeEncodeError:  # a lone surrogate in an input field: only \u escapes can represent it
            line = json.dumps(record, default=str)
        return line + "\n"
