"""Which output files are finished, and of what: a record a file in the user's cache, none beside the output.

A record says what a file was made from, and the size and time that it had. A file that was changed since, or made from
anything else, is not finished. Where no record can be written, none is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["is_finished", "remember"]

_MOST = 1_000  # records that are kept, the newest


def is_finished(target: Path, identity: Mapping[str, Any]) -> bool:
    """Whether ``target`` is as a run left it that had the same ``identity``: input, model and options."""
    try:
        return bool(json.loads(_record_of(target).read_bytes()) == _record(target, identity))
    except (OSError, ValueError):
        return False


def remember(target: Path, identity: Mapping[str, Any]) -> None:
    """Keep that ``target`` is finished."""
    from retrieveall.storage import write_atomic

    with suppress(OSError):
        path = _record_of(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(_record(target, identity)).encode())
        _forget(path.parent)


def _record(target: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    stat = target.stat()
    record = {"identity": dict(identity), "bytes": stat.st_size, "time": stat.st_mtime_ns}
    return dict(json.loads(json.dumps(record)))


def _record_of(target: Path) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:32]
    return Path(cache).expanduser() / "retrieveall" / "finished" / f"{name}.json"


def _forget(folder: Path) -> None:
    """Delete the oldest records."""
    by_age = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[_MOST:]:
        path.unlink(missing_ok=True)
