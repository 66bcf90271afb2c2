"""Streams lines of UTF-8 corpus files and writes files atomically.

Reads plain, ``.gz`` and ``.xz`` files and members of ``.tar.gz`` archives as streams: no file is held in memory and
no archive is unpacked to disk.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias, cast

from retrieveall.errors import DataError

__all__ = ["Line", "Report", "Source", "fail", "iter_lines", "iter_member_lines", "open_output", "plain_name"]

MAX_LINE = 64 * 2**20
"""Maximum bytes of a line; a longer one is an error, to bound memory."""

_DAMAGED = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, tarfile.TarError)
_COMPRESSED = {".gz", ".xz"}

Source: TypeAlias = Path | IO[bytes] | IO[str]
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


def iter_lines(source: Source, report: Report = fail) -> Iterator[Line]:
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
    if source.is_dir():
        raise DataError(f"{source}: expected a file, got a directory; give one of its files")
    try:
        with _open(source) as stream:
            yield from _decode(stream, str(source), report)
    except FileNotFoundError:
        raise DataError(f"{source}: expected a file, found none; check the path") from None
    except _DAMAGED as error:
        raise DataError(f"{source}: the archive is damaged or truncated ({error}); download it again") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error})") from None


def iter_member_lines(archive: Path, names: frozenset[str], report: Report = fail) -> Iterator[Line]:
    """The lines of the first plain file of a tar archive whose name without suffix is in ``names``.

    Raises:
        DataError: missing or damaged archive, no such member, or anything ``iter_lines`` raises.
    """
    seen: list[str] = []
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isfile() and name.stem in names:
                    stream = tar.extractfile(member)
                    assert stream is not None
                    yield from _decode(stream, f"{archive}:{name.name}", report)
                    return
                seen.append(name.name[:40])
    except FileNotFoundError:
        raise DataError(f"{archive}: expected a file, found none; check the path") from None
    except _DAMAGED as error:
        raise DataError(f"{archive}: the archive is damaged or truncated ({error}); download it again") from None
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error})") from None
    wanted = " or ".join(sorted(names))
    raise DataError(f"{archive}: expected a member named {wanted}, got {', '.join(seen[:8]) or 'none'}")


def _open(path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if suffix == ".xz":
        return cast("IO[bytes]", lzma.open(path, "rb"))
    return path.open("rb")


def _stream_name(stream: Any) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _decode(stream: IO[bytes] | IO[str], file: str, report: Report) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise DataError(f"{file}:{number}: expected lines of at most {MAX_LINE:,} bytes; split the line")
        data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        if number == 1:
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(f"{file}:1: expected UTF-8, got UTF-16; convert the file, for example with iconv")
            data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text = _decode_line(data.removesuffix(b"\n").removesuffix(b"\r"))
        except ValueError as error:
            report(DataError(f"{file}:{number}: {error}"))
            continue
        yield Line(text, number, file)
    if number == 0:
        raise DataError(f"{file}: expected at least one line, got an empty file")


def _decode_line(data: bytes) -> str:
    if b"\0" in data:
        raise ValueError("expected text, got binary data (a NUL byte); check that this is a text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8, got byte 0x{data[error.start]:02x} at byte {error.start + 1} of the line; "
            f"convert the file, for example with iconv, if it is text at all"
        ) from None


@contextlib.contextmanager
def open_output(target: Path | IO[str]) -> Iterator[IO[str]]:
    """A text stream that writes ``target``; a path is written to a temporary file and renamed.

    Raises:
        DataError: the file cannot be written, for example because the disk is full; names the file.
    """
    if not isinstance(target, Path):
        yield target
        return
    path = target.resolve()
    # Write to a device or pipe directly; renaming a file onto /dev/null would replace it.
    in_place = path.exists() and not path.is_file() and not path.is_dir()
    beside = path if in_place else path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        if not in_place:
            beside.replace(path)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error}); nothing was changed") from None
    finally:
        if not in_place:
            beside.unlink(missing_ok=True)
