"""A result file that is written over several runs: what is finished is kept, with a record of how far it goes.

``FILE.part/`` holds the results so far and ``state.json``. Results after the last record are dropped when the run goes
on, so every text has exactly one result. The folder is gone when the run is complete, or fails before anything is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from retrieveall.errors import DataError, InputError

__all__ = ["Partial", "open_partial"]

_STATE = "state.json"


class Partial:
    """The results of a run that may be stopped.

    ``state`` is what the last ``record`` was given; empty for a new run.
    """

    def __init__(self, folder: Path, stream: IO[str], identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        self.stream = stream
        self.state = state
        self._record = folder / _STATE
        self._identity = dict(identity)

    def record(self, state: Mapping[str, Any]) -> None:
        """Everything written so far is complete up to ``state``."""
        from retrieveall.storage import write_atomic

        self.stream.flush()
        os.fsync(self.stream.fileno())
        size = os.fstat(self.stream.fileno()).st_size
        whole = {"identity": self._identity, "bytes": size, "state": dict(state)}
        write_atomic(self._record, json.dumps(whole).encode())


@contextmanager
def open_partial(target: Path, identity: Mapping[str, Any]) -> Iterator[Partial]:
    """Go on with the results for ``target``, or begin them; at the end they become ``target``.

    Args:
        identity: the input and the options; results of a run with others are refused.

    Raises:
        InputError: a stopped run had other input or options.
        DataError: the results cannot be written.
        ModelFolderError: another process is writing them.
    """
    from retrieveall.cli.finished import remember
    from retrieveall.storage.lock import lock_folder

    folder = target.with_name(f"{target.name}.part")
    results = folder / "results"
    try:
        folder.mkdir(exist_ok=True)
        release = lock_folder(folder)
        try:
            size, state = _read_state(folder, target, identity)
            with results.open("ab") as stream:
                stream.truncate(size)
            with results.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as text:
                yield Partial(folder, text, identity, state)
            results.replace(target)
            shutil.rmtree(folder)
            remember(target, identity)
        finally:
            if folder.exists() and not (folder / _STATE).exists():
                shutil.rmtree(folder, ignore_errors=True)
            release()
    except OSError as error:
        kept = f"what is finished is kept in {folder}" if folder.exists() else "nothing was changed"
        raise DataError(f"{target}: cannot be written ({error.strerror or error}); {kept}") from None


def _read_state(folder: Path, target: Path, identity: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Bytes of the results that are complete, and the state after them."""
    try:
        saved = json.loads((folder / _STATE).read_bytes())
        size, state, before = int(saved["bytes"]), dict(saved["state"]), dict(saved["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, {}
    now = json.loads(json.dumps(dict(identity)))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            # Of files and their sizes and times, it is enough to say that they differ.
            values = [str(each.get(key))[:80] for each in (before, now) if not isinstance(each.get(key), list | dict)]
            shown = ": {} then, {} now".format(*values) if len(values) == 2 else ""
            raise InputError(
                f"expected the input and options of the stopped run, got another {key}{shown}; "
                f"delete {folder} to begin {target.name} anew"
            )
    results = folder / "results"
    return (size, state) if results.is_file() and results.stat().st_size >= size else (0, {})
