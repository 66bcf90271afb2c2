"""Objects of JSON files, whatever holds them: one object a line (JSONL), one array, or a single object.

Arrays are split into their elements as they are read, so that a file of any size streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from retrieveall.data.files import MAX_LINE, Report, fail
from retrieveall.data.formats.base import Source
from retrieveall.data.json_values import parse
from retrieveall.errors import DataError

__all__ = ["Record", "first_records", "records"]

Record = tuple[int, str, Any]
"""Number of the record (of its line in JSONL), where it begins, and its value."""

_HEAD = 200
_MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)


def records(source: Source, report: Report = fail) -> Iterator[Record]:
    """The values of a JSON file.

    Raises:
        DataError: not JSON; names file and line, unless ``report`` returns.
    """
    lines = _is_jsonl(source)
    found = _of_lines(source, report) if lines else _of_elements(source.name, source.bytes.text())
    for number, where, written in found:
        try:
            value = parse(written)
        except ValueError as error:
            report(DataError(f"{where}: {error}"))
            continue
        yield number, where, value


def first_records(source: Source) -> list[Any]:
    """The values at the beginning of a file, by which its format is recognised; none if it is not JSON."""
    if source.folder or source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        return []
    if _is_jsonl(source):
        lines = (line for line in source.head_lines if line.strip())
        return [value for line in islice(lines, _HEAD) for value in _attempt(line)]
    while True:
        text = source.head.decode("utf-8-sig", "replace")
        found = [value for _, _, each in islice(_complete(source.name, text), _HEAD) for value in _attempt(each)]
        if found or not source.bytes.grow():
            return found


def _attempt(text: str) -> list[Any]:
    try:
        return [parse(text)]
    except ValueError:
        return []


def _is_jsonl(source: Source) -> bool:
    """Whether every line is a value; an array on a single line is none, but lines of arrays are."""
    lines = [line.strip() for line in source.head_lines if line.strip()]
    if not lines:
        return True
    if lines[0].startswith("["):
        return len(lines) > 1 and lines[1].startswith("[") and bool(_attempt(lines[0]))
    if len(lines) == 1 or len(lines[0]) == 1:
        return len(lines[0]) > 1
    return lines[1].startswith("{") or bool(_attempt(lines[0]))


def _of_lines(source: Source, report: Report) -> Iterator[tuple[int, str, str]]:
    for line in source.bytes.lines(report):
        if line.text.strip():
            yield line.number, line.where, line.text


def _complete(name: str, text: str) -> Iterator[tuple[int, str, str]]:
    try:
        yield from _of_elements(name, [text])
    except DataError:  # the rest of the file follows
        return


def _of_elements(name: str, pieces: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """The texts of the elements of a top-level array, or of the single top-level object.

    Raises:
        DataError: the text ends inside an element, or an element is longer than ``MAX_LINE``.
    """
    splitter = _Splitter()
    number = 0
    for piece in pieces:
        for line, written in splitter.feed(piece):
            number += 1
            yield number, f"{name}:{line}", written
        if len(splitter.rest) > MAX_LINE:
            raise DataError(f"{name}:{splitter.line}: expected elements of at most {MAX_LINE:,} characters; split it")
    if splitter.depth:
        raise DataError(
            f"{name}:{splitter.line}: expected a whole JSON text, but the file is truncated: it ends inside the "
            "element that begins here; get it again"
        )


class _Splitter:
    """Finds where the elements of an array begin and end, without parsing them."""

    def __init__(self) -> None:
        self.rest = ""
        self.depth = 0
        self.line = 1
        self._level: int | None = None  # the depth around an element: 1 in an array
        self._position = 0  # where to look on
        self._counted = 0  # up to where lines are counted
        self._begin: int | None = None

    def feed(self, piece: str) -> Iterator[tuple[int, str]]:
        """The elements that end in ``piece``, each with the line that it begins in."""
        self.rest += piece
        for match in _MARK.finditer(self.rest, self._position):
            mark = match.group()
            if mark == '"':  # a string that goes on in the next piece
                break
            self._position = match.end()
            if mark in "{[":
                self._open(mark, match.start())
            elif mark[0] == '"':
                if self.depth == self._level == 1:  # an element that is no object, and would be passed over
                    self._count(match.start())
                    yield self.line, mark
            elif self._close():
                assert self._begin is not None
                yield self.line, self.rest[self._begin : self._position]
                self._begin = None
        self._drop()

    def _open(self, mark: str, start: int) -> None:
        if self._level is None:
            self._level = int(mark == "[")
            self.depth += self._level
            if self._level:
                return
        if self.depth == self._level:
            self._begin = start
            self._count(start)
        self.depth += 1

    def _close(self) -> bool:
        """Whether an element ends here."""
        self.depth -= 1
        return self.depth == self._level and self._begin is not None

    def _count(self, position: int) -> None:
        self.line += self.rest.count("\n", self._counted, position)
        self._counted = position

    def _drop(self) -> None:
        """Forget what was read, but for the beginning of an element."""
        done = self._position if self._begin is None else self._begin
        if done > self._counted:
            self._count(done)
        self.rest = self.rest[done:]
        self._position -= done
        self._counted -= done
        if self._begin is not None:
            self._begin = 0
