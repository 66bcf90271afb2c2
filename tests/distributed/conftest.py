"""Corpora of a few files, and a model that costs nothing, in this process and on Ray."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from retrieveall.types import Entity, Knowledge, Prediction, Route


class NumberModel:
    """Finds numbers. Sent to workers by value, so it needs no module of the tests there."""

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        return [self.one(text) for text in texts]

    def one(self, text: str) -> Prediction:
        found = tuple(Entity(m.start(), m.end(), "NUM", m.group(), 0.5) for m in re.finditer(r"\d+", text))
        return Prediction(text, found, Route({"en": 1.0}, {"en": 1.0}, "vote"), Knowledge())


@pytest.fixture
def write_parquet() -> Callable[..., Path]:
    """``write_parquet(path, rows, group)``: texts ``row N`` with their number as ``id``, in row groups of that size."""

    def write(path: Path, rows: int, group: int = 64, column: str = "text") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pyarrow.table({"id": list(range(1, rows + 1)), column: [f"row {n}" for n in range(1, rows + 1)]})
        parquet.write_table(table, path, row_group_size=group)
        return path

    return write


@pytest.fixture
def mixed_corpus(tmp_path: Path, write_parquet: Callable[..., Path]) -> tuple[Path, dict[str, str]]:
    """A folder of Parquet, JSONL, text and compressed text, and what is in it: the texts by file and row number."""
    folder = tmp_path / "corpus"
    write_parquet(folder / "a.parquet", 205)
    lines = [json.dumps({"text": f"zeile {n} \U0001f600", "k": n}) for n in range(1, 91)]
    lines.insert(40, "")  # a blank line is no row, and has a number
    (folder / "below").mkdir()
    (folder / "below" / "b.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "c.txt").write_bytes("\n".join(f"line {n}" for n in range(1, 102)).encode())  # no line end at the end
    with gzip.open(folder / "d.txt.gz", "wt") as stream:
        stream.write("eins\nzwei 2\n")
    (folder / "_other.txt").write_text("passed over\n")
    (folder / "empty.txt").write_text("")
    rows = {f"below/b.jsonl:{n if n <= 40 else n + 1}": f"zeile {n} \U0001f600" for n in range(1, 91)}
    rows |= {f"a.parquet:{n}": f"row {n}" for n in range(1, 206)}
    rows |= {f"c.txt:{n}": f"line {n}" for n in range(1, 102)}
    rows |= {"d.txt.gz:1": "eins", "d.txt.gz:2": "zwei 2"}
    return folder, rows


def results(folder: Path) -> list[dict[str, Any]]:
    """All results in a folder, in the order of the names of its files."""
    return [json.loads(line) for file in sorted(folder.glob("part-*.jsonl")) for line in _lines(file)]


def _lines(file: Path) -> Iterable[str]:
    return file.read_text(encoding="utf-8").split("\n")[:-1]
