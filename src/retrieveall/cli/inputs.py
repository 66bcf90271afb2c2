"""The input texts of ``extract``: arguments, a file, a folder or standard input, one document at a time.

Offsets refer to the document's text: a line without its line ending, or with ``whole_file`` the file without a
byte-order mark.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from retrieveall.cli.options import InputFormat
from retrieveall.data.documents import Document, check_length, read_json_texts, read_text_lines
from retrieveall.data.files import Line, is_cut_character, iter_lines, plain_name
from retrieveall.data.formats import Source
from retrieveall.data.tables import read_json_column, read_json_file, read_parquet, read_separated
from retrieveall.errors import DataError, InputError

__all__ = ["Reader", "from_arguments", "is_file_name", "unread_notes"]

_FORMATS = {
    ".txt": InputFormat.text,
    ".jsonl": InputFormat.jsonl,
    ".ndjson": InputFormat.jsonl,
    ".json": InputFormat.json,
    ".csv": InputFormat.csv,
    ".tsv": InputFormat.tsv,
    ".parquet": InputFormat.parquet,
}
_TEXTS = (".txt", ".jsonl", ".ndjson")
"""Files of a folder that are read without a text column; a table beside them may be something else."""
_NAMED = 3
"""Names in a note about what was not read."""
_BINARY = {
    b"%PDF-": ("a PDF", "convert it to text first, for example with pdftotext"),
    b"PK\x03\x04": ("a zip archive or an Office document", "unpack it, or save it as text"),
    b"PAR1": ("Parquet", "add --input-format parquet"),
    b"\x1f\x8b": ("gzip", "give it the ending .gz"),
    b"{\\rtf": ("rich text", "save it as plain text"),
}
_JSON = re.compile(r"\s*(?:\[\s*(?:\{\s*(?:\".*)?)?|\{\s*)$", re.DOTALL)
"""A line with which an array of objects begins, or an object that is written on several lines."""
_MAX_FILE = 40 * 2**20  # bytes of a document: that many characters of up to four bytes


def from_arguments(texts: Sequence[str]) -> Iterator[Document]:
    """The texts given on the command line.

    Raises:
        InputError: an argument that is not UTF-8.
    """
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"expected TEXT in UTF-8, got other bytes as text {number}; pass it as a file with --input"
            ) from None
        yield Document(text)


def is_file_name(text: str) -> bool:
    """Whether a text looks like the name of a file to read: no blanks, and the ending of a known format."""
    return len(text.split()) == 1 and _suffix(Path(text)) in (*_FORMATS, ".conll")


class Reader:
    """The documents of a file, of a folder's ``.txt`` and ``.jsonl`` files sorted by name, or of ``-``.

    Documents of a folder get the field ``"source"``, ``name:line``, unless they have one.

    Args:
        column: the column or key of the text; with it, tables in a folder are read too. None: ``text``.

    Raises:
        DataError: no readable input.
    """

    def __init__(
        self,
        path: str,
        *,
        format: InputFormat = InputFormat.auto,
        whole_file: bool = False,
        column: str | None = None,
    ) -> None:
        self._format = format
        self._column = column
        self._whole = whole_file
        self.stdin = path == "-"
        self._folder = not self.stdin and Path(path).is_dir()
        self.skipped: list[Path] = []
        """Empty files of the folder."""
        self.unread: list[Path] = []
        """Other files of the folder, and its subfolders; hidden ones are not among them."""
        self.files = [Path(path)] if not self._folder else self._listed(Path(path))

    @property
    def size(self) -> int | None:
        """Total bytes of all files; None for a stream or compressed files."""
        if self.stdin or any(plain_name(file) != file.name for file in self.files):
            return None
        return sum(file.stat().st_size for file in self.files if file.is_file())

    def __iter__(self) -> Iterator[Document]:
        if self.stdin:
            yield from self._stream()
            return
        for file in self.files:
            yield from self._file(file)

    def _listed(self, folder: Path) -> list[Path]:
        read = _TEXTS if self._column is None else tuple(_FORMATS)
        there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        found = [path for path in there if _suffix(path) in read and path.is_file()]
        texts = set(found)
        self.unread = [path for path in there if path not in texts]
        if not found:
            also = "; tables need --text-column" if self._column is None else ""
            raise DataError(
                f"{folder}: expected files named {', '.join(read[:-1])} or {read[-1]} in the folder, found none; "
                f"check the path{also}"
            )
        self.skipped = [path for path in found if path.stat().st_size == 0]
        if len(self.skipped) == len(found):
            raise DataError(f"{folder}: expected texts, got empty files only; check the path")
        return [path for path in found if path not in self.skipped]

    def _stream(self) -> Iterator[Document]:
        if self._whole:
            yield Document(_decode(sys.stdin.buffer.read(_MAX_FILE + 1), "<stdin>"))
            return
        yield from self._documents(iter_lines(sys.stdin), self._format, folder=False)

    def _file(self, file: Path) -> Iterator[Document]:
        format = self._format
        if format is InputFormat.auto:
            format = _FORMATS.get(_suffix(file), InputFormat.auto)
        if format is InputFormat.parquet:
            yield from self._checked(read_parquet(file, self._column), folder=self._folder)
            return
        _refuse_binary(file)
        if format is InputFormat.json:
            yield from self._checked(read_json_file(Source(file), self._column), folder=self._folder)
            return
        if not self._whole or format not in (InputFormat.text, InputFormat.auto):
            yield from self._documents(iter_lines(file), format, folder=self._folder)
            return
        fields = {"source": file.name} if self._folder else {}
        text = _read_whole(file)
        yield Document(text, fields, file.stat().st_size)

    def _documents(self, lines: Iterator[Line], format: InputFormat, *, folder: bool) -> Iterator[Document]:
        if format is InputFormat.auto:
            format, lines = _sniff(lines, self._column or "text")
        yield from self._checked(self._read(lines, format), folder=folder)

    def _read(self, lines: Iterator[Line], format: InputFormat) -> Iterator[tuple[Line, Document]]:
        if format is InputFormat.parquet:
            raise DataError("<stdin>: expected text or a table of text, got Parquet; name the file with --input")
        if format is InputFormat.json:
            raise DataError("<stdin>: expected text or one JSON object per line, got JSON; name the file with --input")
        if format in (InputFormat.csv, InputFormat.tsv):
            return read_separated(lines, self._column, "\t" if format is InputFormat.tsv else None)
        if format is InputFormat.text:
            if self._column is not None:
                raise DataError(
                    f"{next(lines).file}: expected a table for --text-column (.csv, .tsv, .parquet, .jsonl), "
                    "got plain text; give --input-format if it is one"
                )
            return read_text_lines(lines)
        return _read_jsonl(lines) if self._column in (None, "text") else read_json_column(lines, str(self._column))

    def _checked(self, read: Iterator[tuple[Line, Document]], *, folder: bool) -> Iterator[Document]:
        for line, document in read:
            check_length(document.text, line.where)
            if not folder:
                yield document
            else:
                source = {"source": f"{Path(line.file).name}:{line.number}"}
                yield Document(document.text, source | dict(document.fields), document.size)


def unread_notes(unread: Sequence[Path], column: str | None) -> list[str]:
    """A line if something in a folder was not read: how much, and the first of it.

    Args:
        column: the text column, without which tables are not read.
    """
    if not unread:
        return []
    names = [f"{path.name}/" if path.is_dir() else path.name for path in unread[:_NAMED]]
    more = f" and {len(unread) - _NAMED:,} more" if len(unread) > _NAMED else ""
    tables = column is None and any(_suffix(path) in _FORMATS and path.is_file() for path in unread)
    remedy = "; tables need --text-column" if tables else ""
    what = "1 entry of the folder was" if len(unread) == 1 else f"{len(unread):,} entries of the folder were"
    return [f"note: {what} not read: {', '.join(names)}{more}{remedy}"]


def _refuse_binary(file: Path) -> None:
    """Refuse a document that begins with text, as a PDF does, before any of it is taken for one.

    Raises:
        DataError: says what it is, and what to do.
    """
    try:
        if not file.is_file():  # of a pipe, what is looked at would be gone
            return
        with file.open("rb") as stream:
            start = stream.read(8)
    except (OSError, ValueError):
        return  # said when it is read
    for mark, (kind, remedy) in _BINARY.items():
        if start.startswith(mark) and plain_name(file) == file.name:
            raise DataError(f"{file}: expected text or a table, got {kind}; {remedy}")


def _suffix(file: Path) -> str:
    return Path(plain_name(file)).suffix.lower()


def _read_jsonl(lines: Iterator[Line]) -> Iterator[tuple[Line, Document]]:
    first = next(lines)
    found = read_json_texts(chain([first], lines))
    document = next(found, None)
    if document is None:
        raise DataError(f'{first.file}: expected at least one object with "text", got blank lines only; check the file')
    yield from chain([document], found)


def _sniff(lines: Iterator[Line], key: str) -> tuple[InputFormat, Iterator[Line]]:
    """JSONL if the first non-blank line is an object with the text's key, text otherwise.

    Raises:
        DataError: it begins JSON of another form, which would be read as text.
    """
    head: list[Line] = []
    for line in lines:
        head.append(line)
        if line.text.strip():
            break
    found = InputFormat.text
    if head and _JSON.match(head[-1].text):
        raise DataError(
            f"{head[-1].where}: expected one text or one JSON object per line, got the beginning of a JSON array or of "
            "an object on several lines; name a file that ends in .json with --input, or give --input-format text"
        )
    if head and head[-1].text.lstrip().startswith("{"):
        try:
            value = json.loads(head[-1].text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and key in value:
            found = InputFormat.jsonl
    return found, chain(head, lines)


def _read_whole(file: Path) -> str:
    if plain_name(file) != file.name:
        raise DataError(f"{file}: expected a plain file with --whole-file, got a compressed one; unpack it first")
    try:
        with file.open("rb") as stream:
            return _decode(stream.read(_MAX_FILE + 1), str(file))
    except FileNotFoundError:
        raise DataError(f"{file}: expected a file, found none; check the path") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None


def _decode(data: bytes, name: str) -> str:
    if not data:
        raise DataError(f"{name}: expected a text, got an empty file; check the path")
    if len(data) > _MAX_FILE:
        raise DataError(f"{name}: expected a document of at most {_MAX_FILE:,} bytes; omit --whole-file or split it")
    if b"\0" in data:
        raise DataError(f"{name}: expected text, got binary data (a NUL byte); check that this is a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if is_cut_character(error):
            raise DataError(f"{name}: the file is truncated: it ends inside a character; get it again") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}:{line}: expected UTF-8, got byte 0x{data[error.start]:02x}; "
            "convert the file, for example with iconv"
        ) from None
    check_length(text, name)
    return text
