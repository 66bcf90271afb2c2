"""Files that were cut off: tells a truncated one from one that is something else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import IO, Any

__all__ = ["is_truncated", "is_truncated_stream", "why_not_json"]

_PARQUET, _ARROW = b"PAR1", b"ARROW1"  # a file begins and ends with its mark
_LONGEST_HEADER = 100_000_000  # as the library safetensors has it

_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_CUT_NUMBER = re.compile(r"\.|[eE][+-]?")
_LONGEST_ESCAPE = 6  # characters, \uXXXX


def why_not_json(error: Exception) -> str:
    """What ``json.loads`` found: truncated, nested too deeply, no UTF-8, or invalid, with the place."""
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "it is empty"
        if _is_cut(error):
            return f"it is truncated: it ends inside a value at {_place(error.doc, len(error.doc.rstrip()))}"
        return f"invalid JSON: {error.msg} at {_place(error.doc, error.pos)}"
    if isinstance(error, RecursionError):
        return "invalid JSON: it is nested too deeply"
    if isinstance(error, UnicodeDecodeError) and error.end == len(error.object) and "end of data" in error.reason:
        return f"it is truncated: it ends inside a character at byte {error.start + 1:,}"
    return f"invalid JSON: {' '.join(str(error).split())[:100]}"


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the text ends where more must follow."""
    rest = error.doc[error.pos :].strip()
    return (
        not rest
        or error.msg.startswith("Unterminated string")
        or _CUT_NUMBER.fullmatch(rest) is not None
        or any(literal.startswith(rest) for literal in _LITERALS)
        or (error.msg.startswith("Invalid \\") and len(rest) < _LONGEST_ESCAPE and '"' not in rest)
    )


def _place(text: str, position: int) -> str:
    """``column 7``, or ``line 2, column 7`` of a text of several lines."""
    before = text[:position]
    column = position - (before.rfind("\n") + 1) + 1
    return f"line {before.count(chr(10)) + 1}, column {column}" if "\n" in text.strip() else f"column {column}"


def is_truncated(path: Path) -> bool:
    """Whether a safetensors, Parquet or Arrow file ends before it should; False for any other file."""
    try:
        with path.open("rb") as file:
            return is_truncated_stream(file) or (path.suffix == ".safetensors" and _is_short(file))
    except OSError:
        return False


def is_truncated_stream(file: IO[bytes] | Any) -> bool:
    """The same of an open Parquet or Arrow file that can seek, of Python or of pyarrow."""
    try:
        file.seek(0)
        start = bytes(file.read(6))
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 6))
        end = bytes(file.read(6))
    except (OSError, ValueError):
        return False
    if start.startswith(_PARQUET):
        return not end.endswith(_PARQUET)
    return start == _ARROW and end != _ARROW


def _is_short(file: IO[bytes]) -> bool:
    """Whether a safetensors file is shorter than its header says: eight bytes, the header and the tensors."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        return False
    if size < 8 + length:
        return True
    file.seek(8)
    try:
        tensors = json.loads(file.read(length))
        ends = [int(each["data_offsets"][1]) for name, each in tensors.items() if name != "__metadata__"]
        return size < 8 + length + max(ends)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return False
