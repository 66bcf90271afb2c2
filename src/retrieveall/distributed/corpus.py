"""The files of a corpus, and their rows in blocks. A row is known by its file and its number there, from 1.

Parquet, JSONL, JSON and text; a block is read on its own, so that any worker can predict any block.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from retrieveall.data.documents import Document, check_length, read_json_texts, read_text_lines
from retrieveall.data.files import Line, lines_from
from retrieveall.data.formats import Source
from retrieveall.data.tables import parquet_size, read_json_column, read_json_file, read_parquet_rows
from retrieveall.distributed.place import Place, absolute
from retrieveall.errors import DataError

__all__ = ["Block", "Corpus", "CorpusFile", "FileFormat", "find_corpus"]

FileFormat = Literal["parquet", "jsonl", "json", "text"]

_FORMATS: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "text",
}
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_CHUNK = 2**22  # bytes read at a time: of object storage, each is a request
_MAX_BLOCK = 64 * 2**20
"""Bytes of a block; rows of long texts make blocks of fewer rows, so that little is done again after a fault."""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file: its path in the corpus, bytes, and time of the last change in nanoseconds."""

    name: str
    size: int
    changed: int | None
    format: FileFormat

    @property
    def compressed(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() in _COMPRESSED

    @property
    def whole(self) -> bool:
        """Whether it cannot be entered in the middle: compressed, or an array that begins far before."""
        return self.compressed or self.format == "json"


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a file.

    ``first`` rows come before its ``rows`` rows; None: all that follow. ``start`` and ``stop`` are its place in the
    file in bytes, for Parquet a share of them. ``fault``: why the file cannot be cut into blocks.
    """

    file: int
    number: int
    first: int = 0
    rows: int | None = None
    start: int = 0
    stop: int = 0
    last: bool = True
    fault: str = ""

    @property
    def name(self) -> str:
        return f"{self.file:06d}-{self.number:06d}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Block:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Corpus:
    """Files at ``root``, a folder, a file or a URI of one.

    Args:
        column: the column or key of the text; None: ``text``.
        block_rows: the most rows of a block.
        single: ``root`` is the file itself.
    """

    root: str
    files: tuple[CorpusFile, ...]
    column: str | None = None
    block_rows: int = 5000
    single: bool = False
    place: Place = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", Place(self.root))

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def identity(self) -> list[list[Any]]:
        """Name, size and time of every file, which tell whether the corpus is that of an earlier run."""
        return [[file.name, file.size, file.changed] for file in self.files]

    def where(self, file: CorpusFile) -> str:
        """The file's name in messages."""
        return self.root if self.single else f"{self.root}/{file.name}"

    def cut(self, index: int) -> Iterator[Block]:
        """The blocks of a file; at least one.

        Raises:
            DataError: the file cannot be read, or has no text column.
        """
        file = self.files[index]
        if file.format == "parquet":
            yield from self._cut_rows(index, file)
        elif file.whole:
            yield Block(index, 0, stop=file.size)
        else:
            yield from self._cut_lines(index, file)

    def _cut_rows(self, index: int, file: CorpusFile) -> Iterator[Block]:
        with self.place.open(self._path(file)) as stream:
            rows = parquet_size(stream, self.where(file), self.column)
        step = max(1, min(self.block_rows, rows * _MAX_BLOCK // max(1, file.size)))
        starts = range(0, rows, step) or (0,)
        for number, first in enumerate(starts):
            stop = min(rows, first + step)
            begin, end = (file.size * at // max(1, rows) for at in (first, stop))
            yield Block(index, number, first, stop - first, begin, end, last=stop == rows)

    def _cut_lines(self, index: int, file: CorpusFile) -> Iterator[Block]:
        """A block ends after ``block_rows`` lines, or earlier where it has ``_MAX_BLOCK`` bytes."""
        number = first = start = rows = at = 0
        with self.place.open(self._path(file)) as stream:
            while chunk := bytes(stream.read(_CHUNK)):
                for end in _line_ends(chunk, at):
                    rows += 1
                    if (rows == self.block_rows or end - start >= _MAX_BLOCK) and end < file.size:
                        yield Block(index, number, first, rows, start, end, last=False)
                        number, first, start, rows = number + 1, first + rows, end, 0
                at += len(chunk)
        yield Block(index, number, first, None, start, at)

    def read(self, block: Block) -> Iterator[tuple[int, Document]]:
        """The texts of a block with the numbers of their rows in the file, from 1.

        Raises:
            DataError: a row that cannot be read; names file and row.
        """
        file = self.files[block.file]
        for line, document in self._documents(file, block):
            check_length(document.text, line.where)
            yield line.number, document

    def _documents(self, file: CorpusFile, block: Block) -> Iterator[tuple[Line, Document]]:
        name = self.where(file)
        if file.format == "parquet":
            with self.place.open(self._path(file)) as stream:
                yield from read_parquet_rows(
                    stream, name, self.column, size=file.size, first=block.first, rows=block.rows
                )
            return
        opened = self.place.open_decompressed if file.compressed else self.place.open
        with opened(self._path(file)) as stream:
            if block.start:
                stream.seek(block.start)
            window = io.BufferedReader(_Window(stream, None if file.whole else block.stop - block.start), _CHUNK)
            if file.format == "json":
                yield from read_json_file(Source.opened(window, name), self.column)
            else:
                yield from self._records(lines_from(window, name, block.first), file)

    def _records(self, lines: Iterator[Line], file: CorpusFile) -> Iterator[tuple[Line, Document]]:
        if file.format == "text":
            return read_text_lines(lines)
        return read_json_texts(lines) if self.column in (None, "text") else read_json_column(lines, str(self.column))

    def _path(self, file: CorpusFile) -> str:
        return "" if self.single else file.name


def _line_ends(chunk: bytes, at: int) -> Iterator[int]:
    """The places in the file after each line end of a chunk that stands ``at`` bytes from its beginning."""
    import numpy

    for end in numpy.flatnonzero(numpy.frombuffer(chunk, numpy.uint8) == ord("\n")).tolist():
        yield at + end + 1


class _Window(io.RawIOBase):
    """The next ``length`` bytes of a stream, or all of them; pyarrow's streams are not Python's."""

    def __init__(self, stream: Any, length: int | None) -> None:
        self._stream, self._left = stream, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        data = self._stream.read(wanted) if wanted else b""
        buffer[: len(data)] = data
        if self._left is not None:
            self._left -= len(data)
        return len(data)


def find_corpus(
    path: str, *, format: FileFormat | None = None, column: str | None = None, block_rows: int = 5000
) -> tuple[Corpus, list[str]]:
    """The corpus at a path or URI, and its files without content, which are left out.

    Of a folder, all Parquet, JSONL and text files in it and below are read, by name; with ``column`` JSON files, too,
    which beside data are often something else. Names that begin with a dot or an underscore are passed over.

    Args:
        format: of all files; None: by their endings.

    Raises:
        DataError: no readable file, or one that cannot be listed.
    """
    root = absolute(path)
    place = Place(root)
    found = place.listing()
    single = len(found) == 1 and found[0].path == place.path
    named = sorted(((place.relative(info), info) for info in found), key=lambda each: each[0])
    read = [_corpus_file(name, info, format) for name, info in named if single or not _is_hidden(name)]
    asked = single or format is not None or column is not None
    usable = [file for file in read if file is not None and (asked or file.format != "json")]
    if not usable:
        got = f", got {PurePosixPath(found[0].path).name!r}" if single else ", found none"
        raise DataError(
            f"{root}: expected Parquet, JSONL, JSON or text files ({', '.join(_FORMATS)}){got}; check the path, or "
            f"convert other tables to Parquet{'' if asked else '; JSON in a folder needs --text-column'}"
        )
    empty = [file.name for file in usable if not file.size]
    kept = tuple(file for file in usable if file.size)
    if not kept:
        raise DataError(f"{root}: expected texts, got empty files only; check the path")
    _check_column(root, kept, column)
    return Corpus(root, kept, column, block_rows, single), empty


def _corpus_file(name: str, info: Any, format: FileFormat | None) -> CorpusFile | None:
    """A listed file, None if it is none of a corpus."""
    path = PurePosixPath(name)
    compressed = path.suffix.lower() in _COMPRESSED
    kind = format or _FORMATS.get(PurePosixPath(path.stem).suffix.lower() if compressed else path.suffix.lower())
    if kind is None or (compressed and kind == "parquet"):
        return None
    return CorpusFile(name, info.size, info.mtime_ns, kind)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def _check_column(root: str, files: tuple[CorpusFile, ...], column: str | None) -> None:
    text = next((file for file in files if file.format == "text"), None)
    if column is not None and text is not None:
        raise DataError(
            f"{root}: expected tables for --text-column (Parquet, JSONL or JSON), got plain text in {text.name}; leave "
            "it out"
        )
