"""Several files of a folder change together: all of them or none, even if the process is killed.

A redo journal. New files are staged under ``.staging/files``; then ``.staging/commit.json`` appears by a rename, which
commits the change: the next process that opens the folder completes it. Without that file the next process discards the
staged files. Knows paths only, not what the files mean.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

from retrieveall.errors import InputError, ModelFolderError, UnsafeFileError
from retrieveall.storage.checks import read_json
from retrieveall.storage.files import MANIFEST, fsync_folder, remedy, safe_join, write_atomic
from retrieveall.storage.lock import LOCK_FILE, FolderLockedError, lock_folder
from retrieveall.storage.manifest import Manifest

__all__ = ["Transaction", "recover"]

_STAGING = ".staging"
_FILES = "files"
_JOURNAL = "commit.json"
_WAIT_SECONDS = 30.0
_UNCHANGED = "it is as it was, {remedy}"
_SAVED = "the change is saved and will be completed when it is next opened"


class Transaction:
    """Changes to a model folder and its manifest that appear at once.

    Examples:
        >>> with Transaction(folder) as transaction:
        ...     transaction.path("knowledge/de.parquet").write_bytes(data)
        ...     transaction.delete("adapters/fr")

    Leaving the ``with`` commits; an exception inside it leaves the folder as it was.

    Raises:
        ModelFolderError: another process is writing; or the disk failed, and the message says in which state the
            folder is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = folder / _STAGING / _FILES
        self._deleted: set[str] = set()
        self._unlock: Callable[[], None] | None = None

    def __enter__(self) -> Transaction:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._unlock = lock_folder(self.folder)
            _finish_or_discard(self.folder)
            self._files.mkdir(parents=True)
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise _failed(self.folder, error, _UNCHANGED) from error
            raise
        return self

    def path(self, relative: str) -> Path:
        """Where to write the new content of the file ``relative``; the parent folder is created.

        Raises:
            UnsafeFileError: ``relative`` leaves the folder, or is a file of the transaction itself.
        """
        self._existing(relative)
        staged = self._files.joinpath(*relative.split("/"))
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def replace_folder(self, relative: str) -> Path:
        """An empty folder for the files that replace all files of the folder ``relative``."""
        self.delete(relative)
        staged = self.path(relative)
        staged.mkdir()
        return staged

    def delete(self, relative: str) -> None:
        """Delete the file, or all files of the folder, if it exists."""
        path = self._existing(relative)
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if not p.is_dir())
        names = [p.relative_to(self.folder).as_posix() for p in found]
        for name in names:  # a link out of the folder is refused now: a committed change cannot be undone
            safe_join(self.folder, name)
        self._deleted.update(names)

    def _existing(self, relative: str) -> Path:
        """Where the file or folder ``relative`` is before the change."""
        if relative.split("/")[0] in (_STAGING, LOCK_FILE):
            raise UnsafeFileError(
                f"expected a file of the model, got {relative[:80]!r}, which belongs to the transaction; rename it"
            )
        return safe_join(self.folder, relative)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            else:
                self._abandon()
                if isinstance(error, OSError):
                    raise _failed(self.folder, error, _UNCHANGED) from error
        finally:
            self._release()

    def _commit(self) -> None:
        try:
            staged = self._stage()
            journal = {
                "format": 1,
                "delete": sorted(self._deleted - set(staged)),
                "move": [*staged, MANIFEST],
            }
            write_atomic(self.folder / _STAGING / _JOURNAL, json.dumps(journal).encode())
        except Exception as error:
            self._abandon()
            # The journal may have been written and then not be removable.
            decided = (self.folder / _STAGING / _JOURNAL).exists()
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError):
                raise _failed(self.folder, cause, _SAVED if decided else _UNCHANGED) from error
            raise
        try:
            _finish_or_discard(self.folder)
        except OSError as error:
            raise _failed(self.folder, error, _SAVED) from error

    def _abandon(self) -> None:
        with suppress(OSError):  # leftovers are removed when the folder is next opened
            _discard(self.folder)

    def _stage(self) -> list[str]:
        """Write the manifest of the new state, flush all staged files, and return their names."""
        staged = {}
        for path in sorted(self._files.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise InputError(f"expected plain files in a transaction, got {path}; write a copy")
            if path.is_file():
                staged[path.relative_to(self._files).as_posix()] = path
        for name in staged:
            if safe_join(self.folder, name).is_dir():
                raise InputError(f"{self.folder / name} is a folder and cannot become a file; delete it first")
        staged.pop(MANIFEST, None)
        old = Manifest.find(self.folder) or Manifest(self.folder, {})
        write_atomic(self._files / MANIFEST, old.update(staged, self._deleted).to_bytes())
        for path in staged.values():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        for path in [self.folder / _STAGING, self._files, *(p for p in self._files.rglob("*") if p.is_dir())]:
            fsync_folder(path)
        fsync_folder(self.folder)
        return list(staged)

    def _release(self) -> None:
        if self._unlock is not None:
            self._unlock()
        self._unlock = None


def recover(folder: Path) -> None:
    """Complete or discard the transaction of a process that died in the middle of it.

    Call this before reading a model folder; it costs two ``stat`` calls where there is nothing to do. A running writer
    is left alone, and waited for once its change is committed.

    Raises:
        ModelFolderError: the journal is malformed, or the disk failed.
    """
    journal = folder / _STAGING / _JOURNAL
    deadline = time.monotonic() + _WAIT_SECONDS
    while (folder / _STAGING).is_dir() or (folder / LOCK_FILE).exists():
        try:
            unlock = lock_folder(folder)
            try:
                _finish_or_discard(folder)
            finally:
                unlock()
            return
        except FolderLockedError:
            if not journal.exists():
                return
            if time.monotonic() > deadline:
                raise
        except OSError as error:
            if not journal.exists():  # the old state is intact, and can be read where it cannot be written
                return
            raise _failed(folder, error, "repeat when the disk can be written") from error
        time.sleep(0.02)


def _finish_or_discard(folder: Path) -> None:
    staging = folder / _STAGING
    if staging.is_symlink():
        raise UnsafeFileError(f"{staging} is a link; expected a folder of ours, delete it")
    journal = staging / _JOURNAL
    if journal.exists():
        raw = read_json(journal, limit=1 << 30)
        deleted, moved = raw.get("delete"), raw.get("move")
        if raw.get("format") != 1 or not _names(deleted) or not _names(moved):
            raise ModelFolderError(f"{journal} is no journal of this version; restore {folder} from a copy")
        for name in [*deleted, *moved]:  # all of it before any of it: the folder may have come from elsewhere
            safe_join(folder, name)
            safe_join(folder, f"{_STAGING}/{_FILES}/{name}")
        _apply(folder, deleted, moved)
    _discard(folder)


def _names(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _apply(folder: Path, deleted: list[str], moved: list[str]) -> None:
    """Idempotent: what is missing was moved or deleted by the process that died."""
    touched = {folder}
    for name in deleted:
        path = safe_join(folder, name)
        path.unlink(missing_ok=True)
        touched.add(path.parent)
    for name in moved:
        source, target = folder / _STAGING / _FILES / name, safe_join(folder, name)
        if source.exists():
            _make_folder(target.parent, touched)
            os.replace(source, target)  # noqa: PTH105
        touched.add(target.parent)
    for parent in sorted(touched, key=lambda path: -len(path.parts)):
        _prune(parent, folder)
    for parent in touched:
        if parent.is_dir():
            fsync_folder(parent)


def _make_folder(path: Path, touched: set[Path]) -> None:
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir()
        touched.add(folder.parent)


def _prune(path: Path, root: Path) -> None:
    """Remove the folder, and those above it, where a deletion left them empty."""
    while path != root and path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        path = path.parent


def _discard(folder: Path) -> None:
    """Remove the staging folder, the journal first, without which the rest is ignored."""
    staging = folder / _STAGING
    if not staging.exists():
        return
    (staging / _JOURNAL).unlink(missing_ok=True)
    fsync_folder(staging)
    shutil.rmtree(staging)
    fsync_folder(folder)


def _failed(folder: Path, error: OSError, state: str) -> ModelFolderError:
    return ModelFolderError(
        f"could not write to {folder}: {error.strerror or error}; {state.format(remedy=remedy(error))}"
    )
