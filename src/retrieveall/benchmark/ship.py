"""Copies the results of a benchmark into a folder that can be published: no texts, no directories of this machine.

The copy is a folder of results like the original: ``retrieveall benchmark DIR`` writes its report. Predictions are
offsets and labels, compressed; where they are larger than ``MOST``, they stay behind, and the report does without what
is computed from them.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.runner import CELLS, CONFIG, PLAN
from retrieveall.benchmark.worker import FAILED, PACKED, PREDICTIONS, RESULT
from retrieveall.errors import DataError

__all__ = ["MOST", "Shipped", "ship"]

MOST = 2_000_000
"""Bytes of compressed predictions, of all cells."""


@dataclass(frozen=True)
class Shipped:
    """What was copied: finished cells, bytes without the report, and the bytes of predictions that were left out."""

    cells: int
    size: int
    left_out: int


def ship(source: Path, target: Path, *, most: int = MOST) -> Shipped:
    """Copy the results in ``source`` to ``target``, in place of an earlier copy.

    Raises:
        DataError: no finished cell in ``source``; ``target`` is something else than a copy.
    """
    results = Results.load(source)
    if not results.runs:
        raise DataError(f"{source}: expected at least one finished cell, found none")
    _clear(target, source)
    names = [name for name in json.loads((source / PLAN).read_bytes())["cells"] if (source / CELLS / name).is_dir()]
    packed = {name: data for name in names if (data := _packed(source / CELLS / name)) is not None}
    size = sum(map(len, packed.values()))
    for name in names:
        _copy(source / CELLS / name, target / CELLS / name, packed.get(name) if size <= most else None)
    shutil.copyfile(source / PLAN, target / PLAN)
    settings = yaml.safe_load((source / CONFIG).read_text(encoding="utf-8"))
    text = yaml.safe_dump(without_directories(settings), allow_unicode=True, sort_keys=False)
    (target / CONFIG).write_text(text, encoding="utf-8")
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Shipped(len(results.runs), total, size if size > most else 0)


def _clear(target: Path, source: Path) -> None:
    if target.resolve() == source.resolve():
        raise DataError(f"{target}: expected another folder than that of the results")
    if target.exists() and any(target.iterdir()) and not (target / PLAN).is_file():
        raise DataError(
            f"{target}: expected a new folder or an earlier copy of results, found other files; choose another"
        )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)


def _packed(cell: Path) -> bytes | None:
    """The predictions of a finished cell, compressed."""
    if not (cell / RESULT).is_file():
        return None
    if (cell / PACKED).is_file():
        return (cell / PACKED).read_bytes()
    return lzma.compress((cell / PREDICTIONS).read_bytes(), preset=9) if (cell / PREDICTIONS).is_file() else None


def _copy(cell: Path, target: Path, predictions: bytes | None) -> None:
    """The result of a cell, or why it has none."""
    for name in (RESULT, FAILED):
        if (cell / name).is_file():
            target.mkdir(parents=True)
            text = (cell / name).read_text(encoding="utf-8")
            shown = _failure(text) if name == FAILED else _result(text)
            (target / name).write_text(shown, encoding="utf-8")
            break
    if predictions is not None:
        (target / PACKED).write_bytes(predictions)


def _result(text: str) -> str:
    result = json.loads(text)
    command = result["provenance"].get("command", "")
    result["provenance"]["command"] = " ".join(Path(word).name for word in command.split())  # relative ones, too
    return json.dumps(without_directories(result), ensure_ascii=False, indent=1) + "\n"


_QUOTED = re.compile(r"(['\"“])[^'\"”]{40,}(['\"”])")


def _failure(text: str) -> str:
    """A reason, without what it quotes at length: that may be a sentence of the corpus."""
    return _QUOTED.sub(r"\1…\2", _shortened(text))


_DIRECTORIES = re.compile(r"(?<![\w.:/~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"]+[/\\])*(?=[^\s/\\'\"])")


def _shortened(text: str) -> str:
    """Absolute paths as their last part."""
    return _DIRECTORIES.sub("", text)


def without_directories(value: Any) -> Any:
    """Plain data in which no string names a directory of this machine."""
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, Mapping):
        return {key: without_directories(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_directories(item) for item in value]
    return value
