"""CSV with a token and a tag a row, as in the NER data set of Kaggle; sentences by their ids or by blank rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import partial

from retrieveall.data.conll import rows_of
from retrieveall.data.csv_rows import whole_rows
from retrieveall.data.files import Line, Text, open_output
from retrieveall.data.formats import columns, tagged
from retrieveall.data.formats.base import Item, Reading, Source
from retrieveall.data.schemes import Scheme
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["Csv"]

_DELIMITERS = (",", ";")
_HEADER = ("sentence", "token", "tag")


class Csv:
    """Separated by commas or semicolons, with quotes where needed."""

    name = "csv"
    title = "CSV of tokens and tags"
    endings: tuple[str, ...] = (".csv",)
    of_tokens = True

    def recognise(self, source: Source) -> bool:
        if source.folder:
            return False
        return columns.recognised(_layout(source.head_lines)[1])

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        delimiter, layout = _layout(source.head_lines)
        if layout is None:
            first = next((line for line in source.head_lines if line.strip()), "")
            raise DataError(
                f"{source.name}: expected CSV with a column of tokens and one of tags such as O, B-PER or I-PER, got "
                f"{first[:60]!r} and no column of tags; see docs/corpora.md"
            )
        rows = _rows(source.bytes.lines(reading.report), delimiter)
        return tagged.items(columns.sentences(rows, layout, reading), reading)

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        count = 0
        with open_output(target) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_HEADER)
            for sentence in sentences:
                rows = rows_of(sentence, scheme)
                count += bool(rows)
                writer.writerows((count, token, tag) for token, tag in rows)
        return count


def _layout(lines: list[str]) -> tuple[str, columns.Layout | None]:
    found = [(mark, columns.find_layout(lines, partial(_split, delimiter=mark))) for mark in _DELIMITERS]
    return max(found, key=lambda each: each[1].good if each[1] is not None else -1.0)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return [line]


def _rows(lines: Iterator[Line], delimiter: str) -> Iterator[columns.Row]:
    """The rows with the number of their last line; a quoted cell may hold line breaks."""
    seen = _Seen(lines)
    reader = whole_rows(seen, delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{seen.file}:{seen.number}: expected CSV, got {error}; correct the quotes") from None
        yield seen.file, seen.number, cells


class _Seen:
    """Lines as the module ``csv`` wants them; knows where it is."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.file = ""
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.file, self.number = line.file, line.number
        return line.text + "\n"
