"""The texts of one column of a table: CSV, TSV, Parquet or JSONL. The other columns are carried along."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from retrieveall.config.faults import json_type
from retrieveall.data.csv_rows import whole_rows
from retrieveall.data.documents import Document
from retrieveall.data.files import Line
from retrieveall.data.formats.base import Source
from retrieveall.data.formats.records import records
from retrieveall.errors import DataError
from retrieveall.storage import is_truncated_stream, why_not_json

__all__ = ["parquet_size", "read_json_column", "read_json_file", "read_parquet", "read_parquet_rows", "read_separated"]

_DEFAULT = "text"
_PARQUET_ROWS = 1024  # read at a time
_PARQUET_BUFFER = 2**20  # bytes; without it a row group's column is read at once
_MAX_CELL = 40 * 2**20  # characters; the csv module refuses more than 131,072 by default


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
        _check_separator(header, _DEFAULT if column is None else column, first.where)
        place = _choose(header, column, first.where)
        for row in rows:
            if row:
                yield last[0], _document(header, row, place, last[0])
    except csv.Error as error:
        raise DataError(f"{last[0].where}: no valid table row, {error}; check the quotes") from None


def _check_separator(header: Sequence[str], wanted: str, where: str) -> None:
    """Refuse a header that has the text column only if another character separates its columns.

    Raises:
        DataError: names that character.
    """
    if wanted in header:
        return
    for mark in sorted({character for name in header for character in name if not character.isalnum()}):
        if any(wanted in map(str.strip, name.split(mark)) for name in header) and mark not in wanted:
            raise DataError(
                f"{where}: expected columns separated by a comma, a semicolon or a tab (.tsv: tabs), got {mark!r} in "
                f"{','.join(header)[:80]!r}; separate them by one of these"
            )


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
        yield line, _of_record(record, column, line.where, len(line.text.encode()) + 1)


def read_json_file(source: Source, column: str | None) -> Iterator[tuple[Line, Document]]:
    """The objects of a JSON file, in an array, on lines, or a single one; arrays stream. They are numbered from 1.

    Raises:
        DataError: not JSON, an element that is no object, or no text under the key; names file and line.
    """
    key = column or _DEFAULT
    empty = True
    for number, where, record in records(source):
        empty = False
        size = len(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")) + 1
        yield Line("", number, source.name), _of_record(record, key, where, size)
    if empty:
        raise DataError(
            f"{source.name}: expected JSON objects with the key {key!r}, as an array or one per line, got none; give "
            "--input-format text if the file is plain text"
        )


def _of_record(record: Any, column: str, where: str, size: int) -> Document:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, got {json_type(record)}")
    _choose(list(record), column, where)
    return Document(_text(record.pop(column), where, column), record, size)


def read_parquet(file: Path, column: str | None) -> Iterator[tuple[Line, Document]]:
    """The rows of a Parquet file, a thousand at a time.

    Raises:
        DataError: no Parquet file, no such column, or one that holds no text; names file and row.
    """
    try:
        with file.open("rb") as stream:
            yield from read_parquet_rows(stream, str(file), column, size=file.stat().st_size)
    except FileNotFoundError:
        raise DataError(f"{file}: expected a file, found none; check the path") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None


def read_parquet_rows(
    stream: IO[bytes] | Any, name: str, column: str | None, *, size: int = 0, first: int = 0, rows: int | None = None
) -> Iterator[tuple[Line, Document]]:
    """Some rows of an open Parquet file, a thousand at a time; rows are numbered from 1 in the whole file.

    Args:
        stream: a file that can seek, of Python or of pyarrow.
        name: of the file, for messages.
        size: of the file in bytes.
        first: rows to pass over.
        rows: to read after them; None for all.

    Raises:
        DataError: as ``read_parquet``.
    """
    with _opened_parquet(stream, name) as table:
        key = _text_column(table, column, name)
        each = size // max(1, table.metadata.num_rows)
        stop = table.metadata.num_rows if rows is None else first + rows
        for number, row in _numbered_rows(table, first, stop):
            text = _text(row.pop(key), f"{name}: row {number}", key)
            yield Line("", number, name), Document(text, row, each)


def parquet_size(stream: IO[bytes] | Any, name: str, column: str | None) -> int:
    """The number of rows of an open Parquet file that has the text column.

    Raises:
        DataError: no Parquet file, or no such column.
    """
    with _opened_parquet(stream, name) as table:
        _text_column(table, column, name)
        return int(table.metadata.num_rows)


@contextmanager
def _opened_parquet(stream: IO[bytes] | Any, name: str) -> Iterator[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(stream, buffer_size=_PARQUET_BUFFER) as table:
            yield table
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        fault = "the file is truncated" if is_truncated_stream(stream) else "cannot be read as Parquet"
        raise DataError(f"{name}: {fault} ({str(error).splitlines()[0]}); get it again") from None


def _numbered_rows(table: Any, first: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows ``first`` to ``stop`` with their numbers from 1; only the row groups that hold them are decoded."""
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    starts = list(accumulate(sizes, initial=0))
    groups = [group for group, size in enumerate(sizes) if starts[group] < stop and starts[group] + size > first]
    if not groups:
        return
    number = starts[groups[0]]
    for batch in table.iter_batches(batch_size=_PARQUET_ROWS, row_groups=groups):
        begin, end = max(0, first - number), min(batch.num_rows, stop - number)
        if begin < end:
            rows = batch.slice(begin, end - begin).to_pylist()
            yield from enumerate(rows, number + begin + 1)
        number += batch.num_rows
        if number >= stop:
            return


def _text_column(table: Any, column: str | None, name: str) -> str:
    names: list[str] = table.schema_arrow.names
    return names[_choose(names, column, name)]


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
