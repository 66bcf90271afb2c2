"""The writer's lock of a folder: one writer at a time, and a dead writer does not block the next.

``flock`` where the file system supports it: the kernel releases it when the process ends. Elsewhere a lock file that
names its process. Knows paths and processes, not what is written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from retrieveall.errors import ModelFolderError
from retrieveall.storage.files import UNSUPPORTED

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_FILE", "FolderLockedError", "lock_folder"]

LOCK_FILE = ".writer.lock"
_FILLED_SECONDS = 60.0
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # POSIX allows EACCES for a lock that another process holds


class FolderLockedError(ModelFolderError):
    """Another process holds the writer's lock."""


def lock_folder(folder: Path) -> Callable[[], None]:
    """Take the writer's lock without waiting, and return the function that releases it.

    Raises:
        FolderLockedError: another process, or another thread of this one, is writing.
        OSError: the folder cannot be opened, or the lock file cannot be written.
    """
    with ExitStack() as held:
        descriptor = _flock(folder)
        if descriptor is not None:
            held.callback(os.close, descriptor)
        path, own = folder / LOCK_FILE, _identity()
        if descriptor is None or path.exists():  # from a machine that mounts the folder without flock
            if not _acquire(path, own):
                raise FolderLockedError(
                    f"another process{_named(_read(path))} is writing to {folder}; "
                    f"wait until it has finished, or delete {path} if it no longer runs"
                )
            held.callback(_release, path, own)
        return held.pop_all().close


def _flock(folder: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None where the system or file system has no ``flock``."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _TAKEN:
            raise FolderLockedError(f"another process is writing to {folder}; wait until it has finished") from None
        if error.errno in UNSUPPORTED:
            return None
        raise
    return descriptor


def _acquire(path: Path, own: str) -> bool:
    """Create the lock file, or replace that of a process that no longer runs.

    If several processes find the same dead holder, only one may replace its file: the one that holds a second lock
    file, which is named after the content of the first.
    """
    if _create(path, own):
        return True
    found = _read(path)
    if found is None or not (_is_gone(found) if found else _is_old(path)):
        return False
    claim = path.with_name(f"{path.name}-{hashlib.sha256(found.encode()).hexdigest()[:16]}")
    if not _acquire(claim, own):
        return False
    try:
        if _read(path) != found:  # another process replaced it since it was read
            return False
        os.replace(claim, path)  # noqa: PTH105 - as in files.py
        return True
    finally:
        _release(claim, own)


def _create(path: Path, own: str) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, own.encode())
    except OSError:  # a full disk
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return True


def _release(path: Path, own: str) -> None:
    if _read(path) == own:  # someone may have deleted it, and another process created its own
        with suppress(OSError):  # it is replaced once this process has ended
            path.unlink()


def _read(path: Path) -> str | None:
    """The content of a lock file; None if it does not exist or is not a regular file."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(4096).decode("utf-8", "replace")
    except FileNotFoundError:
        pass
    return None


def _identity() -> str:
    """This process and this use of the lock, as JSON."""
    pid = os.getpid()
    return json.dumps({"host": _host(), "pid": pid, "started": _started(pid), "id": secrets.token_hex(8)})


def _host() -> str:
    """The machine and, on Linux, the container: process ids are only valid within one."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path
    except OSError:
        return platform.node()


def _is_gone(holder: str) -> bool:
    """Whether the process that wrote ``holder`` certainly no longer runs."""
    try:
        found = json.loads(holder)
        host, pid, started = found["host"], found["pid"], found["started"]
    except (ValueError, TypeError, KeyError):
        return False
    if host != _host() or type(pid) is not int or pid < 1:
        return False
    now = _started(pid)
    return now is None or ("" not in (now, started) and now != started)  # its id was given to another process


def _is_old(path: Path) -> bool:
    """Whether an empty lock file is old enough for its process to have died before it wrote its name."""
    try:
        return time.time() - path.stat().st_mtime > _FILLED_SECONDS
    except FileNotFoundError:
        return False


def _started(pid: int) -> str | None:
    """When a process of this machine started; "" if unknown, None if it does not run."""
    if os.name == "nt":  # os.kill would end the process
        return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # another user's
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _named(holder: str | None) -> str:
    try:
        found = json.loads(holder or "")
        return f" ({int(found['pid'])} on {str(found['host']).split()[0][:80]})"
    except (ValueError, TypeError, KeyError, IndexError):
        return ""
