"""The texts of one column of a table: CSV, TSV, Parquet or JSONL. The other columns are carried along."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from retrieveall.data.csv_rows import whole_rows
from retrieveall.data.files import Line
from retrieveall.errors import DataError
from retrieveall.storage import is_truncated, why_not_json

__all__ = ["Document", "read_json_column", "read_parquet", "read_separated"]

_DEFAULT = "text"
_PARQUET_ROWS = 1024  # read at a time
_MAX_CELL = 40 * 2**20  # characters; the csv module refuses more than 131,072 by default


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the other fields of its record; ``size`` is its length in the file in bytes, for progress."""

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0


def read_separated(lines: Iterator[Line], column: str | None, separator: str | None) -> Iterator[tuple[Line, Document]]:
    """The rows of a CSV or TSV file with a header; an empty cell is an empty text, a blank line is no row.

    Args:
        separator: None: the one of comma, semicolon and tab that the header has most of.

    Raises:
        DataError: no such column, or a row with more or fewer cells than the header; names file and line.
    """
    csv.field_size_limit(_MAX_CELL)
    first = next(lines)
    separator = separator or max(",;\t", key=first.text.count)
    last = [first]
    rows = whole_rows(_remember(lines, last, first), separator)
    try:
        header = next(rows)
        place = _choose(header, column, first.where)
        for row in rows:
            if row:
                yield last[0], _document(header, row, place, last[0])
    except csv.Error as error:
        raise DataError(f"{last[0].where}: no valid table row, {error}; check the quotes") from None


def _remember(lines: Iterator[Line], last: list[Line], first: Line) -> Iterator[str]:
    """The lines as text, with the latest one kept for messages."""
    yield f"{first.text}\n"
    for line in lines:
        last[0] = line
        yield f"{line.text}\n"


def _document(header: Sequence[str], row: Sequence[str], place: int, line: Line) -> Document:
    if len(row) != len(header):
        raise DataError(
            f"{line.where}: expected {len(header)} cells as in the header, got {len(row)}; "
            "put quotes around cells that hold the separator"
        )
    fields = {name: cell for i, (name, cell) in enumerate(zip(header, row, strict=True)) if i != place}
    return Document(row[place], fields, sum(len(cell.encode()) + 1 for cell in row))


def read_json_column(lines: Iterable[Line], column: str) -> Iterator[tuple[Line, Document]]:
    """The objects of a JSONL file with the text under another key than ``text``; null is an empty text.

    Raises:
        DataError: not a JSON object, or no text under the key; names file and line.
    """
    for line in lines:
        if not line.text.strip():
            continue
        try:
            record = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{line.where}: expected one JSON object per line, but {why_not_json(error)}") from None
        if not isinstance(record, dict):
            raise DataError(f"{line.where}: expected a JSON object, got {type(record).__name__}")
        _choose(list(record), column, line.where)
        text = _text(record.pop(column), line.where, column)
        yield line, Document(text, record, len(line.text.encode()) + 1)


def read_parquet(file: Path, column: str | None) -> Iterator[tuple[Line, Document]]:
    """The rows of a Parquet file, a thousand at a time.

    Raises:
        DataError: no Parquet file, no such column, or one that holds no text; names file and row.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            name = names[_choose(names, column, str(file))]
            size = file.stat().st_size // max(1, table.metadata.num_rows)
            number = 0
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    text = _text(row.pop(name), f"{file}: row {number}", name)
                    yield Line("", number, str(file)), Document(text, {k: _plain(v) for k, v in row.items()}, size)
    except FileNotFoundError:
        raise DataError(f"{file}: expected a file, found none; check the path") from None
    except pyarrow.ArrowException as error:
        fault = "the file is truncated" if is_truncated(file) else "cannot be read as Parquet"
        raise DataError(f"{file}: {fault} ({str(error).splitlines()[0]}); get it again") from None


def _text(value: Any, where: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: expected text in the column {column!r}, got {type(value).__name__}; choose with --text-column"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: expected Unicode text, got a lone surrogate; remove it") from None
    return value


def _plain(value: Any) -> Any:
    """JSON has no number for "not a number" and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _choose(names: Sequence[str], column: str | None, where: str) -> int:
    """The number of the text column: as named, else ``text``."""
    wanted = _DEFAULT if column is None else column
    if wanted in names:
        if names.count(wanted) > 1:
            raise DataError(f"{where}: expected one column {wanted!r}, got {names.count(wanted)}; rename the others")
        return list(names).index(wanted)
    near = get_close_matches(wanted, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else "or read plain lines with --input-format text"
    raise DataError(
        f"{where}: expected a column {wanted!r}, got {', '.join(map(repr, names))[:300]}; choose with --text-column, "
        f"{hint}"
    )
