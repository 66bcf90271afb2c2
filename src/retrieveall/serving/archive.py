"""An uploaded language: a tar archive from anywhere, unpacked without trusting anything in it.

Only regular files with the names that a language of a model folder has are accepted; each is written under a name of
ours. So links, devices, absolute paths, ``..``, pickles and code have no way in. Knows nothing of models.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from retrieveall.arguments import checked_path
from retrieveall.config import check_language
from retrieveall.errors import InputError, ModelFolderError, UnsafeFileError
from retrieveall.knowledge.shard import FILES as KNOWLEDGE_FILES
from retrieveall.serving.settings import ServiceSettings

__all__ = ["ADAPTER_FILES", "pack", "unpack"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_card.json")
_CHUNK = 1 << 20
_MOST_MEMBERS = 64
_BLOCK = 512


def unpack(archive: Path, target: Path, language: str, limit: int = ServiceSettings().unpacked_bytes) -> None:
    """Write the files of ``language`` into ``target/adapters/LANGUAGE`` and ``target/knowledge/LANGUAGE``.

    Raises:
        UnsafeFileError: a link, a path that is not one of these files, or more than ``limit`` bytes.
        ModelFolderError: no tar archive, or files are missing.
    """
    allowed = _allowed(language)
    found: set[str] = set()
    try:
        with archive.open("rb") as file, _open(file, limit) as tar:
            for count, member in enumerate(_members(tar)):
                if count >= _MOST_MEMBERS:
                    raise UnsafeFileError(f"expected at most {_MOST_MEMBERS} members in the archive, got more")
                if member.isdir() and _plain(member.name) in _folders(allowed):
                    continue
                name = _checked(member, allowed, found)
                found.add(name)
                _write(tar, member, target / name)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError) as error:
        kind = type(error).__name__
        raise ModelFolderError(f"expected a tar archive, plain or gzipped: {kind}; pack it again") from None
    _check_complete(found, language)


def pack(folder: str | Path, language: str, archive: str | Path) -> None:
    """The reverse: an archive of a language of a model folder, for ``PUT /v1/languages/LANGUAGE``.

    Raises:
        InputError: no path; an archive that cannot be written.
        LanguageError: no language identifier.
        ModelFolderError: the folder lacks the language's adapter.
    """
    folder, archive = checked_path(folder, "the model folder"), checked_path(archive, "the archive")
    check_language(language)
    present = [name for name in sorted(_allowed(language)) if (folder / name).is_file()]
    _check_complete(set(present), language)
    try:
        with tarfile.open(archive, "w:gz") as tar:
            for name in present:
                tar.add(folder / name, name, recursive=False)
    except OSError as error:
        raise InputError(
            f"expected a place for the archive, could not write {archive}: {error.strerror or error}"
        ) from None


class _Limited:
    """Reads a plain or gzipped file up to ``limit`` unpacked bytes, of which at most a chunk is in memory.

    ``tarfile`` would unpack a bomb before its size could be asked for.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left, self._limit = file, limit, limit
        self._unzip = zlib.decompressobj(wbits=31) if file.read(2) == b"\x1f\x8b" else None
        file.seek(0)
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._left -= len(data)
        if self._left < 0:
            raise UnsafeFileError(f"expected at most {self._limit:,} bytes unpacked, got more; do not use it")
        return data

    def _some(self, size: int) -> bytes:
        size = min(size, _CHUNK)
        if self._unzip is None:
            return self._file.read(size)
        while not self._unzip.eof:
            packed = self._rest or self._file.read(_CHUNK)
            if not packed:
                raise EOFError
            data = self._unzip.decompress(packed, size)
            self._rest = self._unzip.unconsumed_tail
            if data:
                return data
        return b""


def _open(file: IO[bytes], limit: int) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", _Limited(file, limit)), mode="r|")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member


def _allowed(language: str) -> set[str]:
    adapters = {f"adapters/{language}/{name}" for name in ADAPTER_FILES}
    return adapters | {f"knowledge/{language}/{name}" for name in KNOWLEDGE_FILES}


def _folders(allowed: set[str]) -> set[str]:
    return {"", "."} | {"/".join(name.split("/")[:depth]) for name in allowed for depth in (1, 2)}


def _plain(name: str) -> str:
    return name.removeprefix("./").rstrip("/")


def _checked(member: tarfile.TarInfo, allowed: set[str], found: set[str]) -> str:
    """The name of a member that may be unpacked."""
    shown = ascii(member.name[:80])
    if not member.isreg() or member.issparse():
        raise UnsafeFileError(f"expected plain files in the archive, {shown} is a link or something else; pack copies")
    name = member.name.removeprefix("./")
    if name not in allowed:
        raise UnsafeFileError(f"expected only {', '.join(sorted(allowed))} in the archive, got {shown}; leave it out")
    if name in found:
        raise UnsafeFileError(f"expected every file once in the archive, got {shown} twice; pack it again")
    return name


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # a regular file
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        while data := source.read(_CHUNK):
            size += len(data)
            file.write(data)
    if size != member.size:
        raise EOFError


def _check_complete(found: set[str], language: str) -> None:
    """The adapter must be there, and the knowledge with all its files or not at all."""
    adapter = {f"adapters/{language}/{name}" for name in ADAPTER_FILES}
    knowledge = {f"knowledge/{language}/{name}" for name in KNOWLEDGE_FILES}
    missing = sorted(adapter - found) or (sorted(knowledge - found) if knowledge & found else [])
    if missing:
        raise ModelFolderError(f"expected {missing[0]} in the archive, found none; pack the whole language")
