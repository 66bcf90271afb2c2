"""Rows of CSV as the module ``csv`` reads them, but for a quote that is never closed, which it passes over."""

from __future__ import annotations

import csv
from collections.abc import Iterator

__all__ = ["whole_rows"]


def whole_rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """The rows of lines with their endings.

    Raises:
        csv.Error: a malformed row; the lines end inside a quoted cell.
    """
    counted = _Counted(lines)
    for row in csv.reader(counted, delimiter=delimiter):
        if counted.ended:  # before the row did
            above = f", {counted.of_row - 1:,} lines above" if counted.of_row > 1 else ""
            raise csv.Error(f"a quoted cell never ends{above}: the file is truncated, or a quote is missing")
        counted.of_row = 0
        yield row


class _Counted:
    """Lines; ``of_row`` counts those of a row, and ``ended`` says whether more were asked for than there are."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.of_row = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.of_row += 1
        return line
