"""CoNLL files: a token a line in two or more columns, a blank line between sentences.

Columns are separated by tabs or by blanks. Lines that begin with ``#`` and are no row of the file are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from retrieveall.data.conll import write_conll
from retrieveall.data.files import Text
from retrieveall.data.formats import columns, tagged
from retrieveall.data.formats.base import Item, Reading, Source
from retrieveall.data.schemes import Scheme
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["Conll"]

_BLANKS = re.compile(r"[ \t]+")


class Conll:
    """Also PAN-X and WikiANN, CoNLL-U Plus, GermEval, HIPE, the CoNLL export of Label Studio, tags first."""

    name = "conll"
    title = "CoNLL columns"
    endings: tuple[str, ...] = (".tsv", ".conll", ".bio", ".iob", ".iob2")
    of_tokens = True

    def recognise(self, source: Source) -> bool:
        if source.folder:
            return False
        return columns.recognised(_layout(source.head_lines)[1])

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        split, layout = _layout(source.head_lines)
        if layout is None:
            layout = _undecided(source)
        _note(layout, source, reading)
        return tagged.items(columns.sentences(_rows(source, split, layout, reading), layout, reading), reading)

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        return write_conll(sentences, target, scheme)


def _by_tabs(line: str) -> list[str]:
    return line.split("\t")


def _by_blanks(line: str) -> list[str]:
    return _BLANKS.split(line.strip(" \t"))


def _layout(lines: list[str]) -> tuple[columns.Split, columns.Layout | None]:
    """How to split lines, and where the columns are; tabs, if both ways are as good."""
    found = [(split, columns.find_layout(lines, split)) for split in (_by_tabs, _by_blanks)]
    return max(found, key=lambda each: each[1].good if each[1] is not None else -1.0)


def _undecided(source: Source) -> columns.Layout:
    """Two columns, for a file in which nothing is a tag: its first row will be the error."""
    if not any(map(str.strip, source.head_lines)):
        return columns.Layout(0, 1, 2, 0.0)
    first = next(line for line in source.head_lines if line.strip())
    if len(_by_blanks(first)) == 2 or len(_by_tabs(first)) == 2:
        return columns.Layout(0, 1, 2, 0.0)
    raise DataError(
        f"{source.name}: expected rows of a token and a tag such as O, B-PER or I-PER, got {first[:60]!r} and no "
        f"column of tags; see docs/corpora.md"
    )


def _note(layout: columns.Layout, source: Source, reading: Reading) -> None:
    if layout.others:
        others = ", ".join(str(i + 1) for i in layout.others)
        reading.notes.add(
            f"files with several columns of tags; column {layout.tag + 1} is read, {others} is not", source.name
        )


def _rows(source: Source, split: columns.Split, layout: columns.Layout, reading: Reading) -> Iterator[columns.Row]:
    for line in source.bytes.lines(reading.report):
        if not line.text.strip():
            yield line.file, line.number, []
            continue
        cells = split(line.text)
        if line.text.startswith("#") and not _is_row(cells, layout):
            continue
        yield line.file, line.number, cells


def _is_row(cells: list[str], layout: columns.Layout) -> bool:
    """Whether a line that begins with ``#`` is a row whose token is ``#``, and no comment."""
    return len(cells) == layout.width and columns.is_tag(cells[layout.tag])
