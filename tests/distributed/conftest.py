"""Corpora of a few files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet


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
