"""Runs the cells of a benchmark, each in a process of its own, several at a time, and says how long it will take.

Cells that share a trained model run one after the other: the first trains it. A cell that fails costs no other one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from retrieveall.benchmark.cells import Cell, cells_of
from retrieveall.benchmark.corpora import labels_of, read_corpora
from retrieveall.benchmark.methods import check_installed
from retrieveall.benchmark.saved import read_saved
from retrieveall.benchmark.settings import BenchmarkConfig
from retrieveall.benchmark.worker import (
    FAILED,
    RESULT,
    is_prepared,
    is_trained,
    model_folder,
    prepare_cell,
    run_cell,
    save_cell,
)
from retrieveall.config import LabelConfig, dump_yaml
from retrieveall.errors import RetrieveAllError
from retrieveall.evaluation.speed import THREAD_VARIABLES
from retrieveall.storage import write_atomic
from retrieveall.storage.lock import lock_folder

__all__ = ["CELLS", "CONFIG", "PLAN", "Outcome", "Say", "prepare_benchmark", "run_benchmark"]

CELLS, MODELS, CONFIG, PLAN, LOG = "cells", "models", "benchmark.yaml", "plan.json", "log.txt"
_PAUSE = 0.1

Say = Callable[[str], None]
"""Called with one line about the progress."""


@dataclass
class Outcome:
    """Numbers of cells that were there already and that were run, and the reasons of those that failed by title.

    ``run`` counts those that failed, too.
    """

    kept: int = 0
    run: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def prepare_benchmark(config: BenchmarkConfig, out: Path, *, say: Say = lambda line: None) -> Outcome:
    """Do what comes before training: index what may be retrieved, and make the training examples.

    That takes no GPU. ``run_benchmark`` goes on from what is under ``out``, also on another machine with the same
    versions of Python and tokenizers.

    Returns:
        Trainings that were prepared, and those that could not be; methods with nothing to prepare are left out.

    Raises:
        DataError, ConfigError, InputError, FolderLockedError: as ``run_benchmark``.
    """
    with _locked(out):
        run, cells = _planned(config, out, 0, say)
        return run.prepare(cells)


def run_benchmark(config: BenchmarkConfig, out: Path, *, jobs: int = 1, say: Say = lambda line: None) -> Outcome:
    """Run what is not finished yet, and keep results under ``out``.

    Args:
        jobs: cells at a time, each in a process of its own; 0 runs them in this process, one after the other.

    Raises:
        DataError, ConfigError, InputError: the corpus or the settings cannot be used; nothing was run then.
        MissingExtraError: a package that a method needs is not installed; nothing was run then.
        FolderLockedError: another process runs a benchmark in ``out``.
    """
    with _locked(out):
        run, cells = _planned(config, out, jobs, say)
        return run.run(cells)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    release = lock_folder(out)
    try:
        yield
    finally:
        release()


def _planned(config: BenchmarkConfig, out: Path, jobs: int, say: Say) -> tuple[_Run, list[Cell]]:
    """The run and its cells, which are written to ``out``."""
    config.check_backbone()
    say("reading the corpora")
    corpora = {corpus.language: corpus for corpus in read_corpora(config.data, config.sizes)}
    labels = labels_of(config.data, list(corpora.values()))
    cells = cells_of(config, corpora, labels)
    write_atomic(out / CONFIG, dump_yaml(config).encode())
    plan = {"cells": [cell.folder for cell in cells]}
    write_atomic(out / PLAN, json.dumps(plan, indent=1).encode())
    return _Run(config, out, labels, jobs, say), cells


@dataclass
class _Live:
    """A running cell."""

    cell: Cell
    process: subprocess.Popen[bytes]
    started: float
    slot: int


class _Run:
    def __init__(self, config: BenchmarkConfig, out: Path, labels: Sequence[LabelConfig], jobs: int, say: Say) -> None:
        self._config, self._out, self._labels, self._jobs, self._say = config, out, labels, jobs, say
        self._seconds: dict[str, list[float]] = {}
        self._live: list[_Live] = []
        self._gpus = _gpus()

    def run(self, cells: Sequence[Cell]) -> Outcome:
        outcome = Outcome()
        waiting = []
        for cell in cells:
            if (self._folder(cell) / RESULT).is_file():
                outcome.kept += 1
                self._learn(cell)
            else:
                waiting.append(cell)
        check_installed({cell.method.name: cell.method for cell in waiting}.values())
        self._total, self._done = len(cells), outcome.kept
        self._say(f"{len(cells)} cells, {outcome.kept} finished before")
        if not self._jobs:
            self._run_here(waiting, outcome)
        try:
            while waiting or self._live:
                self._start(waiting)
                self._collect(waiting, outcome)
                time.sleep(_PAUSE)
        finally:
            self._stop()
        if not outcome.failures and not self._config.keep_models:
            for cell in cells:  # no others: what another configuration has prepared or trained is kept
                shutil.rmtree(self._model_folder(cell), ignore_errors=True)
            with suppress(OSError):
                (self._out / MODELS).rmdir()
        return outcome

    def _run_here(self, waiting: list[Cell], outcome: Outcome) -> None:
        """All cells in this process, which loads the libraries once; their peak memory is then that of all so far."""
        while waiting:
            cell = waiting.pop(0)
            folder, started = self._folder(cell), time.monotonic()
            save_cell(cell, self._labels, folder, (self._out / MODELS).resolve())
            (folder / FAILED).unlink(missing_ok=True)
            try:
                run_cell(self._config, folder)
                self._learn(cell, time.monotonic() - started)
            except RetrieveAllError as error:
                outcome.failures[cell.title] = " ".join(str(error).split())
                write_atomic(folder / FAILED, outcome.failures[cell.title].encode())
            outcome.run += 1
            reason = outcome.failures.get(cell.title)
            self._say(f"done: {cell.title}{self._left(waiting)}" if reason is None else _failed(cell, reason))

    def prepare(self, cells: Sequence[Cell]) -> Outcome:
        """Prepare the cells that are not finished, each training once; one that fails costs no other one."""
        outcome = Outcome()
        waiting: dict[str, Cell] = {}
        for cell in cells:
            if cell.method.is_prepared and not (self._folder(cell) / RESULT).is_file():
                waiting.setdefault(cell.training_key, cell)
        for number, cell in enumerate(waiting.values(), start=1):
            where = f"[{number} of {len(waiting)}]"
            if is_prepared(self._model_folder(cell)):
                outcome.kept += 1
                self._say(f"{where} prepared before: {cell.title}")
                continue
            self._say(f"{where} {cell.title}")
            outcome.run += 1
            save_cell(cell, self._labels, self._folder(cell), (self._out / MODELS).resolve())
            try:
                prepare_cell(self._config, self._folder(cell), _Slowly(self._say))
            except RetrieveAllError as error:
                outcome.failures[cell.title] = " ".join(str(error).split())
                self._say(_failed(cell, outcome.failures[cell.title]))
        return outcome

    def _folder(self, cell: Cell) -> Path:
        return self._out / CELLS / cell.folder

    def _model_folder(self, cell: Cell) -> Path:
        return model_folder(self._out / MODELS, cell)

    def _start(self, waiting: list[Cell]) -> None:
        busy = {live.cell.training_key for live in self._live}
        for cell in list(waiting):
            if len(self._live) >= self._jobs:
                return
            if cell.training_key not in busy or is_trained(self._model_folder(cell)):
                busy.add(cell.training_key)
                waiting.remove(cell)
                self._live.append(self._launch(cell))

    def _launch(self, cell: Cell) -> _Live:
        folder = self._folder(cell)
        save_cell(cell, self._labels, folder, (self._out / MODELS).resolve())
        (folder / FAILED).unlink(missing_ok=True)
        slot = min(set(range(self._jobs)) - {live.slot for live in self._live})
        command = [sys.executable, "-m", "retrieveall.benchmark.worker", str(self._out / CONFIG), str(folder)]
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(slot)
            )
        prepared = ", prepared" if is_prepared(self._model_folder(cell)) else ""
        self._say(f"[{self._done + len(self._live) + 1} of {self._total}] {cell.title}{prepared}")
        return _Live(cell, process, time.monotonic(), slot)

    def _environment(self, slot: int) -> Mapping[str, str]:
        found = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self._config.threads))}
        found |= {"TOKENIZERS_PARALLELISM": "false"}
        if self._gpus and self._jobs > 1:
            found["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return found

    def _collect(self, waiting: Sequence[Cell], outcome: Outcome) -> None:
        for live in list(self._live):
            status = live.process.poll()
            if status is None:
                continue
            self._live.remove(live)
            self._done += 1
            outcome.run += 1
            seconds = time.monotonic() - live.started
            if status == 0 and (self._folder(live.cell) / RESULT).is_file():
                self._learn(live.cell, seconds)
                self._say(f"done in {_duration(seconds)}: {live.cell.title}{self._left(waiting)}")
            else:
                outcome.failures[live.cell.title] = self._reason(live.cell, status)
                self._say(_failed(live.cell, outcome.failures[live.cell.title]))

    def _reason(self, cell: Cell, status: int) -> str:
        folder = self._folder(cell)
        if (folder / FAILED).is_file():
            return (folder / FAILED).read_text(encoding="utf-8")
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1][:300] if lines else "no message"
        reason = f"its process ended with status {status}: {last}; the whole output is in {folder / LOG}"
        write_atomic(folder / FAILED, reason.encode())
        return reason

    def _learn(self, cell: Cell, seconds: float | None = None) -> None:
        """Remember what a cell of this method took, for the estimate."""
        if seconds is None:
            cost = read_saved(self._folder(cell) / RESULT, "cost")["cost"]
            seconds = cost["training_seconds"] + cost["predicting_seconds"]
        self._seconds.setdefault(cell.method.name, []).append(seconds)

    def _left(self, waiting: Sequence[Cell]) -> str:
        """An estimate of the time left, by the means of the methods so far."""
        known = [second for own in self._seconds.values() for second in own]
        if not known:
            return ""
        mean = sum(known) / len(known)

        def expected(cell: Cell) -> float:
            own = self._seconds.get(cell.method.name)
            return sum(own) / len(own) if own else mean

        now = time.monotonic()
        running = [max(0.0, expected(live.cell) - (now - live.started)) for live in self._live]
        left = (sum(map(expected, waiting)) + sum(running)) / max(1, self._jobs)
        return f"; {len(waiting) + len(self._live)} left, about {_duration(max([left, *running]))}"

    def _stop(self) -> None:
        """End the processes of cells that still run: after an interrupt they go on from their checkpoints."""
        for live in self._live:
            live.process.terminate()
        for live in self._live:
            try:
                live.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                live.process.kill()


class _Slowly:
    """Says what goes on, at most every so many seconds."""

    def __init__(self, say: Say, seconds: float = 15.0) -> None:
        self._say, self._seconds = say, seconds
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            self._say(f"{what}: {done:,} of {total:,}")


def _failed(cell: Cell, reason: str) -> str:
    """The line of a cell that failed, with the first line of its error."""
    return f"failed: {cell.title}: {(reason.strip().splitlines() or ['no message'])[0]}"


def _gpus() -> list[str]:
    """The GPUs that cells share, as CUDA_VISIBLE_DEVICES names them; none without nvidia-smi."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each for each in visible.split(",") if each]
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, _ in enumerate(done.stdout.strip().splitlines())]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
