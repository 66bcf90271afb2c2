"""Predictions as CSV or TSV: one row per entity, and one for a text without entities."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from io import StringIO
from typing import Any

from retrieveall.cli.render.base import Renderer
from retrieveall.types import Prediction

__all__ = ["COLUMNS", "SeparatedRenderer"]

COLUMNS = ("text", "language", "start", "end", "label", "entity", "score")


class SeparatedRenderer(Renderer):
    """``row``, the input's other fields, then ``COLUMNS``; ``row`` counts the texts from 1.

    The first text says which other fields there are. Values that are lists or objects are written as JSON.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._fields: list[str] | None = None
        self._row = 0
        self._left_out: set[str] = set()

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        stream = StringIO()
        write = csv.writer(stream, delimiter=self._separator, lineterminator="\n").writerow
        if self._fields is None:
            self._fields = [name for name in fields if name not in ("row", *COLUMNS)]
            write(["row", *self._fields, *COLUMNS])
        self._left_out.update(name for name in fields if name not in (*self._fields, "row", *COLUMNS))
        self._row += 1
        carried = [_cell(fields.get(name)) for name in self._fields]
        for row in prediction.to_rows():
            write([self._row, *carried, *(_cell(row[name]) for name in COLUMNS)])
        return stream.getvalue()

    def tail(self) -> str:
        """The header of a table without rows."""
        return self._separator.join(("row", *COLUMNS)) + "\n" if self._fields is None else ""

    def notes(self) -> list[str]:
        if not self._left_out:
            return []
        names = ", ".join(sorted(self._left_out)[:5])
        return [f"note: the first text has no {names}, so the table has no such column; JSONL keeps all fields"]

    def state(self) -> dict[str, Any]:
        return {"fields": self._fields, "row": self._row, "left_out": sorted(self._left_out)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fields, self._row = state["fields"], state["row"]
        self._left_out = set(state["left_out"])


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (dict, list, bool)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    # A lone surrogate, which JSON can hold, cannot be written.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
