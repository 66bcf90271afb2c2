"""The manifest of a model folder: its files with their sizes and checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieveall.errors import ModelFolderError
from retrieveall.storage.checks import file_size, read_json
from retrieveall.storage.files import MANIFEST, check_relative, safe_join, sha256_file, write_atomic

__all__ = ["FileRecord", "Manifest"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 256 << 20
_REMEDY = "restore it from a copy, or download the model or make the index again"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        return cls(sha256_file(path), path.stat().st_size)


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: POSIX paths relative to ``folder``, each with its record. It does not list itself."""

    folder: Path
    files: Mapping[str, FileRecord]

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check ``manifest.json``; no other file is opened.

        Raises:
            ModelFolderError: missing, not JSON, or of another format.
            UnsafeFileError: it lists a path outside ``folder``, or is a link to one.
        """
        path = safe_join(folder, MANIFEST)
        raw = read_json(path, limit=_MAX_BYTES)
        files = raw.get("files")
        if raw.get("format") != 1 or not isinstance(files, dict):
            raise ModelFolderError(
                f"{path}: expected format 1 with 'files', got format {raw.get('format')!r}; {_REMEDY}"
            )
        for name in files:
            check_relative(folder, name)  # links are checked when a file is used: there may be thousands of files
        return cls(folder, {name: _record(path, name, value) for name, value in files.items()})

    @classmethod
    def find(cls, folder: Path) -> Manifest | None:
        """``load``, or None for a folder without a manifest."""
        return cls.load(folder) if (folder / MANIFEST).exists() else None

    @classmethod
    def of(cls, folder: Path) -> Manifest:
        """A new manifest of the regular files in ``folder``, without hidden files and folders."""
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not path.is_dir()
        )
        kept = [name for name in names if name != MANIFEST and not any(p.startswith(".") for p in name.split("/"))]
        return cls(folder, {name: FileRecord.of(safe_join(folder, name)) for name in kept})

    def names(self, prefix: str | None = None) -> list[str]:
        """The paths, sorted; with ``prefix`` only that file, or the files of that folder."""
        return sorted(
            name for name in self.files if prefix is None or name == prefix or name.startswith(prefix.rstrip("/") + "/")
        )

    def verify(self, prefix: str | None = None, *, full: bool = True) -> None:
        """Compare the files with their records: the sizes, and with ``full`` the checksums too.

        Raises:
            ModelFolderError: names the first file that is missing, of another size, or altered.
        """
        for name in self.names(prefix):
            record, path = self.files[name], safe_join(self.folder, name)
            size = file_size(path, _REMEDY)
            if size != record.size:
                fault = "truncated" if size < record.size else "damaged"
                raise ModelFolderError(f"{path} is {fault}: expected {record.size} bytes, found {size}; {_REMEDY}")
            if full and sha256_file(path) != record.sha256:
                raise ModelFolderError(f"{path} was altered: its checksum is not the manifest's; {_REMEDY}")

    def update(self, added: Mapping[str, Path], removed: Iterable[str] = ()) -> Manifest:
        """A new manifest with the files of ``added`` (name to where the bytes are now) and without ``removed``."""
        gone = set(removed)
        files = {name: record for name, record in self.files.items() if name not in gone}
        files |= {name: FileRecord.of(path) for name, path in added.items()}
        return Manifest(self.folder, files)

    def to_bytes(self) -> bytes:
        """The text of ``manifest.json``: the same for the same files."""
        files = {name: {"sha256": r.sha256, "size": r.size} for name, r in sorted(self.files.items())}
        return (json.dumps({"format": 1, "files": files}, indent=1, ensure_ascii=False) + "\n").encode()

    def write(self) -> None:
        """Write ``manifest.json`` atomically."""
        write_atomic(self.folder / MANIFEST, self.to_bytes())


def _record(path: Path, name: str, value: Any) -> FileRecord:
    if isinstance(value, dict):
        sha256, size = value.get("sha256"), value.get("size")
        if isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(size) is int and size >= 0:
            return FileRecord(sha256, size)
    raise ModelFolderError(f"{path}: expected sha256 and size of {name[:80]!r}, got {str(value)[:80]!r}; {_REMEDY}")
