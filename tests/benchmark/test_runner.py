"""Which cells run at the same time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from retrieveall.benchmark import runner
from retrieveall.benchmark.cells import Cell
from retrieveall.benchmark.settings import CrfMethod
from retrieveall.benchmark.worker import model_folder


def _cell(name: str, training_key: str) -> Cell:
    return Cell(CrfMethod(name=name, kind="crf"), ("en",), {"en": 1}, 13, f"key of {name}", training_key)


@pytest.mark.parametrize("trained", [False, True])
def test_cells_that_share_a_model_wait_for_its_training_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    cells = [_cell("first", "a" * 64), _cell("second", "a" * 64), _cell("third", "b" * 64)]
    run = runner._Run(_Config(), tmp_path, (), 3, lambda line: None)  # type: ignore[arg-type]
    started: list[str] = []

    def launch(cell: Cell) -> Any:
        started.append(cell.method.name)
        return runner._Live(cell, None, time.monotonic(), len(started))  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_launch", launch)
    if trained:
        folder = model_folder(tmp_path / "models", cells[0])
        folder.mkdir(parents=True)
        (folder / "trained.json").write_text("{}")
    run._start(list(cells))
    assert started == (["first", "second", "third"] if trained else ["first", "third"])


class _Config:
    threads = 1
