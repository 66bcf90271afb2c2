"""Reads the JSON files in the folder of a benchmark's results, which may have been copied in part or edited."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieveall.errors import DataError
from retrieveall.storage import why_not_json

__all__ = ["read_saved", "read_saved_lines"]


def read_saved(path: Path, *keys: str) -> dict[str, Any]:
    """The object in a file, which has ``keys``.

    Raises:
        DataError: missing, truncated, no JSON, or another object; says what to do.
    """
    try:
        return _object(path.read_bytes(), keys)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(path), error) from None


def read_saved_lines(path: Path, *keys: str) -> Iterator[dict[str, Any]]:
    """The objects in the lines of a file, which have ``keys``; one whose name ends with ``.xz`` is packed.

    Raises:
        DataError: as ``read_saved``; names the line.
    """
    try:
        data = path.read_bytes()
        lines = (lzma.decompress(data) if path.suffix == ".xz" else data).splitlines()
    except (OSError, lzma.LZMAError) as error:
        raise _damaged(path, str(path), error) from None
    for number, line in enumerate(lines, 1):
        try:
            found = _object(line, keys)
        except ValueError as error:
            raise _damaged(path, f"{path}:{number}", error) from None
        yield found


def _object(data: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(why_not_json(error)) from None
    missing = list(keys) if not isinstance(found, dict) else [key for key in keys if key not in found]
    if missing or not isinstance(found, dict):
        raise ValueError(f"it has no {', '.join(map(repr, missing)) or 'object'}")
    return found


def _damaged(path: Path, where: str, error: OSError | ValueError | lzma.LZMAError) -> DataError:
    what = error.strerror if isinstance(error, OSError) else str(error)
    return DataError(
        f"{where}: expected what a benchmark saved, but {what}; copy it again, or delete {path.parent} and repeat "
        "retrieveall benchmark CONFIG"
    )
