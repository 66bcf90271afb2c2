"""Predictions as CSV or TSV: one row per entity, and one for a text without entities."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import chain, count
from typing import Any

from retrieveall.cli.render.base import Renderer
from retrieveall.data.plain_values import PlainValues
from retrieveall.types import Prediction

__all__ = ["AROUND", "COLUMNS", "LONG", "SeparatedRenderer"]

COLUMNS = ("text", "language", "start", "end", "label", "entity", "score")
LONG = 1000
"""Characters of a text, or of another cell, that every row repeats; a book would be written once per entity."""
AROUND = 200
"""Characters of a longer text before and after the entity of a row."""
_CUT = "…"


class SeparatedRenderer(Renderer):
    """``row``, the input's other fields, then ``COLUMNS``; ``row`` counts the texts from 1.

    The first text says which other fields there are. One that is named as a column of the result, such as ``label``,
    is kept under another name (``input_label``). Values that are lists or objects are written as JSON. Of a text
    of more than ``LONG`` characters a row has the part around its entity; other long cells are whole in the first row
    of a text, and cut in its others.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._fields: list[str] | None = None
        self._columns: list[str] = []
        self._row = 0
        self._cut = 0
        self._left_out: set[str] = set()
        self._values = PlainValues()

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        stream = StringIO()
        write = csv.writer(stream, delimiter=self._separator, lineterminator="\n").writerow
        if self._fields is None:
            self._carry(list(fields))
            write(["row", *self._columns, *COLUMNS])
        self._left_out.update(name for name in fields if name not in (self._fields or ()))
        self._row += 1
        self._cut += len(prediction.text) > LONG
        carried = [self._values.cell(fields.get(name)) for name in self._fields or ()]
        for number, row in enumerate(prediction.to_rows()):
            if number == 1:
                carried = [_beginning(cell) for cell in carried]
            row["text"] = _part(row["text"], row["start"], row["end"])
            write([self._row, *carried, *(self._values.cell(row[name]) for name in COLUMNS)])
        return stream.getvalue()

    def tail(self) -> str:
        """The header of a table without rows."""
        return self._separator.join(("row", *COLUMNS)) + "\n" if self._fields is None else ""

    def notes(self) -> list[str]:
        found = self._values.notes()
        pairs = zip(self._fields or [], self._columns, strict=True)
        renamed = [f"{name} as {column}" for name, column in pairs if name != column]
        if renamed:
            found.append(
                "note: the result has columns of the same names as the input; those of the input are kept: "
                f"{', '.join(renamed)}"
            )
        if self._cut:
            verb = " is" if self._cut == 1 else "s are"
            found.append(
                f"note: {self._cut:,} text{verb} longer than {LONG:,} characters; of such a text a row has "
                f"{AROUND} characters before and after its entity. JSONL keeps whole texts"
            )
        if self._left_out:
            names = ", ".join(sorted(self._left_out)[:5])
            found.append(
                f"note: the first text has no {names}, so the table has no such column; JSONL keeps all fields"
            )
        return found

    def state(self) -> dict[str, Any]:
        own = {"fields": self._fields, "row": self._row, "cut": self._cut, "left_out": sorted(self._left_out)}
        return own | {"values": self._values.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state["fields"] is not None:
            self._carry(state["fields"])
        self._row, self._cut = state["row"], state.get("cut", 0)
        self._left_out = set(state["left_out"])
        self._values.restore(state.get("values", {}))

    def _carry(self, fields: list[str]) -> None:
        self._fields, self._columns = fields, _columns(fields)


def _columns(fields: Sequence[str]) -> list[str]:
    """The columns of the input's fields, in order, each with a name that no other column of the table has."""
    taken = {"row", *COLUMNS, *fields}
    found = []
    for field in fields:
        column = field
        if field in ("row", *COLUMNS):
            names = chain([f"input_{field}"], (f"input_{field}_{number}" for number in count(2)))
            column = next(name for name in names if name not in taken)
            taken.add(column)
        found.append(column)
    return found


def _part(text: str, start: int | None, end: int | None) -> str:
    """The text, or what is around the entity of a long one; the beginning of a long one without entities."""
    if len(text) <= LONG:
        return text
    if start is None or end is None:
        return text[:LONG] + _CUT
    first, last = max(0, start - AROUND), min(len(text), end + AROUND)
    return f"{_CUT if first else ''}{text[first:last]}{_CUT if last < len(text) else ''}"


def _beginning(cell: Any) -> Any:
    return cell[:LONG] + _CUT if isinstance(cell, str) and len(cell) > LONG else cell
