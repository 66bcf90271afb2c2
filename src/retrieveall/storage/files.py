"""Single files: safe names, atomic writes, checksums. Knows nothing of what is in them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from retrieveall.errors import ModelFolderError, UnsafeFileError

__all__ = ["MANIFEST", "check_relative", "fsync_folder", "safe_join", "sha256_file", "write_atomic"]

MANIFEST = "manifest.json"
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:\ud800-\udfff]")
_MAX_PART = 255  # bytes of one name on the common file systems
_MAX_PATH = 4096


def check_relative(root: Path, relative: str) -> None:
    """The part of ``safe_join`` that needs no look at the disk.

    Raises:
        UnsafeFileError: as ``safe_join``, links excepted.
    """
    parts = relative.split("/")
    if (
        _FORBIDDEN.search(relative)
        or any(part in {"", ".", ".."} for part in parts)
        or any(len(part.encode()) > _MAX_PART for part in parts)
        or len(relative) > _MAX_PATH
    ):
        raise UnsafeFileError(
            f"expected a path inside {root} made of plain names, got {relative[:80]!r}; do not use this folder"
        )


def safe_join(root: Path, relative: str) -> Path:
    """``root / relative``, for a POSIX path that comes from a file or a user and must stay inside ``root``.

    Links that lead out are refused, except those of a Hugging Face cache, where every file of a snapshot is a
    link into the ``blobs`` folder beside it.

    Raises:
        UnsafeFileError: absolute, ``..``, a drive letter, a backslash, a control character, a part or the
            whole too long, or a link that leaves the folder.
    """
    check_relative(root, relative)
    path = root / relative
    try:
        base = root.resolve()
        target = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise UnsafeFileError(f"{path} is a link that leads nowhere; do not use this folder") from None
    blobs = base.parent.parent / "blobs" if base.parent.name == "snapshots" else base
    if not (target.is_relative_to(base) or target.is_relative_to(blobs)):
        raise UnsafeFileError(
            f"{path} is a link out of its folder, to {target}; replace the link by a copy of the file"
        )
    return path


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, and rename it: the old file or the new one, never
    half.

    Raises:
        ModelFolderError: the disk is full or not writable; the old file, if any, is as it was.
    """
    temporary: Path | None = None
    state = "the old content is kept, free space and repeat"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; a model folder is shared
        os.replace(temporary, path)  # noqa: PTH105 - one spelling for the crash tests to break
        temporary, state = None, "the new content is there but may not survive a power cut"
        fsync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise ModelFolderError(f"could not write {path}: {error.strerror or error}; {state}") from error


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)  # the only way to read it is to set it
    os.umask(mask)
    return mask
