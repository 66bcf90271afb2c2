"""Folders on a local disk or in object storage, by path or URI; files appear in them complete or not at all.

The credentials of object storage are those of the environment of the process that opens it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from retrieveall.errors import DataError

__all__ = ["Place", "absolute", "is_uri"]


def is_uri(path: str) -> bool:
    """Whether ``path`` is a URI such as ``s3://bucket/folder``."""
    return "://" in path


def absolute(path: str) -> str:
    """``path`` without a slash at the end; a local path is made absolute, so that workers elsewhere find it."""
    return path.rstrip("/") if is_uri(path) else str(Path(path).expanduser().resolve())


class Place:
    """A folder, or a single file, at ``root``.

    Opened on first use, and again in every process that it is sent to.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.root,)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """pyarrow's file system, and the path of ``root`` in it.

        Raises:
            DataError: a URI that pyarrow cannot resolve.
        """
        import pyarrow
        from pyarrow import fs

        if not is_uri(self.root):
            return fs.LocalFileSystem(), self.root
        try:
            system, path = fs.FileSystem.from_uri(self.root)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{self.root}: cannot be opened ({_short(error)}); expected a path, or a URI such as s3://bucket/folder"
            ) from None
        return system, path.rstrip("/")

    @property
    def path(self) -> str:
        """The path of ``root`` in its file system."""
        return self._opened[1]

    def listing(self, *, recursive: bool = True) -> list[Any]:
        """pyarrow's ``FileInfo`` of the files in the folder, or of the single file; empty if there is none.

        Raises:
            DataError: it cannot be listed.
        """
        from pyarrow import fs

        with self._explained("listed"):
            system, path = self._opened
            info = system.get_file_info(path)
            if info.type == fs.FileType.File:
                return [info]
            selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
            return [found for found in system.get_file_info(selector) if found.type == fs.FileType.File]

    def relative(self, info: Any) -> str:
        """The path of a listed file in the folder; of a single file, its name."""
        path = self._opened[1]
        return str(info.base_name if info.path == path else info.path.removeprefix(path).lstrip("/"))

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is no such file."""
        from pyarrow import fs

        with self._explained("read", name):
            info = self._opened[0].get_file_info(self._path(name))
        return info.size if info.type == fs.FileType.File else None

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file as it is, which can seek; ``""`` is the root itself.

        Raises:
            DataError: it cannot be opened or read.
        """
        with self._explained("read", name), self._opened[0].open_input_file(self._path(name)) as stream:
            yield stream

    @contextmanager
    def open_decompressed(self, name: str) -> Iterator[Any]:
        """A file from its beginning; ``.gz``, ``.bz2``, ``.zst`` and ``.lz4`` are decompressed."""
        with self._explained("read", name), self._opened[0].open_input_stream(self._path(name)) as stream:
            yield stream

    def read(self, name: str) -> bytes:
        with self.open(name) as stream:
            return bytes(stream.read())

    def make_folders(self, *names: str) -> None:
        """Create the folder and folders in it, where they are missing.

        Raises:
            DataError: they cannot be created.
        """
        with self._explained("written"):
            for name in ("", *names):
                self._opened[0].create_dir(self._path(name), recursive=True)

    def remove_folder(self, name: str) -> None:
        with suppress(OSError):
            self._opened[0].delete_dir(self._path(name))

    @contextmanager
    def writing(self, name: str, temporary: str) -> Iterator[IO[bytes]]:
        """A new file: written in the folder ``temporary`` under a name of its own, and renamed when it is complete.

        Raises:
            DataError: it cannot be written.
        """
        system = self._opened[0]
        beside = self._path(f"{temporary}/{name.rpartition('/')[2]}.{uuid4().hex}")
        with self._explained("written", name):
            with system.open_output_stream(beside) as stream:
                yield stream
            if system.type_name == "local":
                _sync(beside)
            system.move(beside, self._path(name))

    def write(self, name: str, data: bytes, temporary: str) -> None:
        """As ``writing``, at once."""
        with self.writing(name, temporary) as stream:
            stream.write(data)

    def mark(self, name: str) -> None:
        """An empty file."""
        with self._explained("written", name):
            self._opened[0].open_output_stream(self._path(name)).close()

    def _path(self, name: str) -> str:
        path = self._opened[1]
        return f"{path}/{name}" if name else path

    @contextmanager
    def _explained(self, what: str, name: str = "") -> Iterator[None]:
        import pyarrow

        where = f"{self.root}/{name}" if name else self.root
        try:
            yield
        except FileNotFoundError:
            raise DataError(f"{where}: expected a file, found none; check the path") from None
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{where}: cannot be {what} ({_short(error)})") from None


def _short(error: BaseException) -> str:
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _sync(path: str) -> None:
    """Bring a file to the disk before it gets its name, so that a power cut leaves no half file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
