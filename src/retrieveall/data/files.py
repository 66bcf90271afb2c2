"""Streams lines of UTF-8 corpus files and writes files atomically.

Reads plain, ``.gz`` and ``.xz`` files and members of ``.tar.gz`` archives as streams: no file is held in memory and
no archive is unpacked to disk.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, TypeAlias, cast

from retrieveall.errors import DataError

__all__ = [
    "ByteSource",
    "Line",
    "Report",
    "Stream",
    "Text",
    "fail",
    "is_cut_character",
    "iter_lines",
    "lines_from",
    "open_output",
    "plain_name",
    "replacing",
]

MAX_LINE = 64 * 2**20
"""Maximum bytes of a line; a longer one is an error, to bound memory."""

_DAMAGED = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, tarfile.TarError)
_COMPRESSED = {".gz", ".xz"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_CUT = "the file is truncated: it ends inside a character; get it again"

HEAD = 2**16
"""Bytes by which the format of a file is recognised, if they suffice."""

CHUNK = 2**18

Stream: TypeAlias = Path | IO[bytes] | IO[str]
Text: TypeAlias = Path | IO[str]
Report: TypeAlias = Callable[[DataError], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its ending; ``number`` counts from 1, ``where`` is ``file:number`` for messages."""

    text: str
    number: int
    file: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


def fail(error: DataError) -> None:
    """Raise the error, to stop at the first one."""
    raise error


def plain_name(path: Path) -> str:
    """The name of a file without its compression suffix."""
    return path.stem if path.suffix.lower() in _COMPRESSED else path.name


def lines_from(stream: IO[bytes], file: str, before: int) -> Iterator[Line]:
    """The lines of a file from the middle: ``before`` lines come before where ``stream`` stands.

    Raises:
        DataError: as ``iter_lines``.
    """
    yield from _decode(stream, file, fail, before)


def iter_lines(source: Stream, report: Report = fail) -> Iterator[Line]:
    """The lines of a file or an open stream, without endings (``\\n`` or ``\\r\\n``) and byte-order mark.

    Args:
        source: a path, or a stream that is left open.
        report: called with the error of a line that cannot be decoded; if it returns, the line is skipped.

    Raises:
        DataError: missing, damaged or empty file, a directory, invalid UTF-8, binary data; names file and line.
    """
    if not isinstance(source, Path):
        yield from _decode(getattr(source, "buffer", source), _stream_name(source), report)
        return
    yield from ByteSource(source).lines(report)


class ByteSource:
    """The bytes of a file or of a member of an archive: looked at first (``head``), then read once.

    Args:
        path: a plain, ``.gz`` or ``.xz`` file, or a tar archive.
        members: names without suffix; the first plain file of the archive with one of them is read.
    """

    def __init__(self, path: Path, members: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.name = str(path)
        self._members = members
        self._given: IO[bytes] | None = None
        self._closing = contextlib.ExitStack()
        self._stream: IO[bytes] | None = None
        self._head = b""

    @classmethod
    def opened(cls, stream: IO[bytes], name: str) -> Self:
        """The bytes of a stream, which is left open, as they are; ``name`` is for messages."""
        source = cls(Path(name))
        source.name, source._given = name, stream
        return source

    @property
    def head(self) -> bytes:
        """The first bytes; ``grow`` reads more of them.

        Raises:
            DataError: missing or damaged file, a directory, UTF-16; an archive without the member.
        """
        if self._stream is None:
            if self._given is None and self.path.is_dir():
                raise DataError(f"{self.path}: expected a file, got a directory; give one of its files")
            with _explained(self._place):
                self._stream = self._closing.enter_context(self._open())
            self.grow()
            if self._head.startswith(_UTF16):
                raise _utf16(self.name)
        return self._head

    def grow(self) -> bool:
        """Read on, until ``head`` is twice as long; whether there was more."""
        before = len(self._head)
        if self._stream is None or before >= MAX_LINE:
            return False
        with _explained(self._place):
            while len(self._head) < max(HEAD, 2 * before) and (data := self._stream.read(HEAD)):
                self._head += data
        return len(self._head) > before

    def lines(self, report: Report = fail) -> Iterator[Line]:
        """The lines, as for ``iter_lines``."""
        with self._reading() as stream:
            yield from _decode(stream, self.name, report)

    def text(self) -> Iterator[str]:
        """The text in pieces, for formats that are not read by lines.

        Raises:
            DataError: not UTF-8; names file and line.
        """
        decode = codecs.getincrementaldecoder("utf-8-sig")()
        line = 1
        with self._reading() as stream:
            while data := stream.read(CHUNK):
                try:
                    piece = decode.decode(data)
                except UnicodeDecodeError as error:
                    line += data.count(b"\n", 0, error.start)
                    raise DataError(f"{self.name}:{line}: {_not_utf8(data[error.start])}") from None
                line += data.count(b"\n")
                yield piece
        try:
            decode.decode(b"", final=True)
        except UnicodeDecodeError:
            raise DataError(f"{self.name}:{line}: {_CUT}") from None

    def data(self, limit: int) -> bytes:
        """All bytes.

        Raises:
            DataError: more than ``limit``.
        """
        with self._reading() as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise DataError(f"{self.name}: expected at most {limit:,} bytes; split the file")
        return data

    def close(self) -> None:
        """Close the file; also done when it was read to the end."""
        self._closing.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[IO[bytes]]:
        with self._closing, _explained(self._place):
            head = self.head
            assert self._stream is not None
            yield io.BufferedReader(_Rejoined(head, self._stream), CHUNK)

    @property
    def _place(self) -> Path | str:
        """What cannot be opened or read, for messages."""
        return self.path if self._given is None else self.name

    def _open(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        if self._given is not None:
            return contextlib.nullcontext(self._given)
        if self._members:
            return self._open_member()
        suffix = self.path.suffix.lower()
        if suffix == ".gz":
            return cast("IO[bytes]", gzip.open(self.path, "rb"))
        if suffix == ".xz":
            return cast("IO[bytes]", lzma.open(self.path, "rb"))
        return self.path.open("rb")

    @contextlib.contextmanager
    def _open_member(self) -> Iterator[IO[bytes]]:
        seen: list[str] = []
        with tarfile.open(self.path, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                stream = tar.extractfile(member) if member.isfile() and name.stem in self._members else None
                if stream is not None:
                    self.name = f"{self.path}:{name.name}"
                    yield stream
                    return
                seen.append(name.name[:40])
        wanted = " or ".join(sorted(self._members))
        raise DataError(f"{self.path}: expected a member named {wanted}, got {', '.join(seen[:8]) or 'none'}")


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] if len(self._head) else self._rest.read(len(buffer))
        self._head = self._head[len(data) :] if len(self._head) else self._head
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    """Turn the errors of opening and reading into one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: expected a file, found none; check the path") from None
    except _DAMAGED as error:
        raise DataError(f"{path}: the archive is damaged or truncated ({error}); download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _stream_name(stream: Any) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _decode(stream: IO[bytes] | IO[str], file: str, report: Report, before: int = 0) -> Iterator[Line]:
    number = before
    while raw := stream.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise DataError(f"{file}:{number}: expected lines of at most {MAX_LINE:,} bytes; split the line")
        data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        if number == 1:
            if data.startswith(_UTF16):
                raise _utf16(file)
            data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text = _decode_line(data.removesuffix(b"\n").removesuffix(b"\r"), last=not data.endswith(b"\n"))
        except ValueError as error:
            report(DataError(f"{file}:{number}: {error}"))
            continue
        yield Line(text, number, file)
    if number == 0:
        raise DataError(f"{file}: expected at least one line, got an empty file; check the path")


def _decode_line(data: bytes, *, last: bool = False) -> str:
    if b"\0" in data:
        raise ValueError("expected text, got binary data (a NUL byte); check that this is a text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if last and is_cut_character(error):
            raise ValueError(_CUT) from None
        raise ValueError(_not_utf8(data[error.start], f" at byte {error.start + 1} of the line")) from None


def is_cut_character(error: UnicodeDecodeError) -> bool:
    """Whether bytes end inside a character of UTF-8."""
    return error.end == len(error.object) and error.reason == "unexpected end of data"


def _utf16(file: str) -> DataError:
    return DataError(
        f"{file}:1: expected UTF-8, got UTF-16; convert the file, for example with iconv -f UTF-16 -t UTF-8"
    )


def _not_utf8(byte: int, place: str = "") -> str:
    return (
        f"expected UTF-8, got byte 0x{byte:02x}{place}; convert the file, for example from Latin-1 with "
        f"iconv -f LATIN1 -t UTF-8, if it is text at all"
    )


@contextlib.contextmanager
def open_output(target: Text) -> Iterator[IO[str]]:
    """A text stream that writes ``target``; a path is written to a temporary file and renamed.

    Raises:
        DataError: the file cannot be written, for example because the disk is full; names the file.
    """
    if not isinstance(target, Path):
        yield target
        return
    with replacing(target) as path, path.open("w", encoding="utf-8", newline="\n") as stream:
        yield stream


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file that replaces ``target`` when everything is written.

    Raises:
        DataError: the file cannot be written; names it.
    """
    path = target.resolve()
    # Write to a device or pipe directly; renaming a file onto /dev/null would replace it.
    in_place = path.exists() and not path.is_file() and not path.is_dir()
    beside = path if in_place else path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        if not in_place:
            beside.replace(path)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error}); nothing was changed") from None
    finally:
        if not in_place:
            beside.unlink(missing_ok=True)
