"""Single files: safe names, atomic writes, checksums. Knows nothing of their content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from retrieveall.errors import ModelFolderError, UnsafeFileError

__all__ = [
    "MANIFEST",
    "UNSUPPORTED",
    "check_relative",
    "fsync_folder",
    "remedy",
    "safe_join",
    "sha256_file",
    "write_atomic",
]

MANIFEST = "manifest.json"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
UNSUPPORTED = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of a call that the file system does not support; NFS answers EBADF to a lock on a folder."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:\ud800-\udfff]")
_MAX_PART = 255  # bytes of one name on the common file systems
_MAX_PATH = 4096


def check_relative(root: Path, relative: str) -> None:
    """The checks of ``safe_join`` that do not touch the disk.

    Raises:
        UnsafeFileError: as ``safe_join``, except for links.
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
    """``root / relative``, for a POSIX path from a file or a user that must stay inside ``root``.

    Links out of the folder are refused, except those of a Hugging Face cache, where every file of a snapshot is a link
    into the ``blobs`` folder beside it.

    Raises:
        UnsafeFileError: an absolute path, ``..``, a drive letter, a backslash, a control character, a name or path that
            is too long, or a link out of the folder.
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
    """Write ``data`` to a temporary file, flush it to the disk, and rename it to ``path``.

    Raises:
        ModelFolderError: the disk is full or not writable; the old file, if any, is unchanged.
    """
    temporary: Path | None = None
    state: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
        with temporary.open("xb") as file:  # not tempfile, whose files are private: a model folder is shared
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - one spelling for the crash tests to break
        temporary, state = None, "the new content is there but may not survive a power cut"
        fsync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        state = state or f"the old content is kept, {remedy(error)}"
        raise ModelFolderError(f"could not write {path}: {error.strerror or error}; {state}") from error


def remedy(error: OSError) -> str:
    """What to do after a write failed, before repeating it."""
    full = error.errno in _FULL
    return "free space and repeat" if full else "check the path and its permissions, and repeat"


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut, where the system supports it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; the file is not read into memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
