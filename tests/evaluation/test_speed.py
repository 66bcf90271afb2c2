"""Measuring speed: what is timed, what is not, and what the script saves."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.evaluation import cold_start, measure, throughput
from retrieveall.evaluation.evaluator import BATCH

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def test_throughput_times_everything_once_after_a_warm_up(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 104.0])
    monkeypatch.setattr("retrieveall.evaluation.speed.time.perf_counter", lambda: next(clock))
    model = make_model({}, {})
    result = throughput(model, ["a"] * (BATCH + 4))
    assert model.batches == [BATCH, BATCH, 4]
    assert (result["sentences"], result["seconds"]) == (BATCH + 4, 4.0)
    assert result["sentences_per_second"] == (BATCH + 4) / 4


def test_measure_sets_the_threads_and_puts_them_back(make_model: Callable[..., Any]) -> None:
    seen: list[int] = []

    class Model(type(make_model({}, {}))):  # type: ignore[misc]
        def predict(self, texts: Any, *, language: Any = None) -> Any:
            seen.append(torch.get_num_threads())
            raise RuntimeError

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measure(Model({}, {}), ["a"], threads=before + 1, command=[])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_measure_without_a_cold_start(make_model: Callable[..., Any]) -> None:
    result = measure(make_model({}, {}), ["a"], command=[])
    assert result["threads"] == 1
    assert result["sentences"] == 1
    assert "cold_start_seconds" not in result


def test_peak_memory_is_of_this_process_and_counts_what_was_freed() -> None:
    code = (
        "from retrieveall.evaluation.speed import peak_memory\n"
        "before = peak_memory()\n"
        "block = bytearray(b'x') * 200_000_000\n"
        "del block\n"
        "print(before, peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if "None" in done.stdout:
        pytest.skip("this system does not say")
    before, after = map(float, done.stdout.split())
    assert 10 < before < 1_000
    assert 150 < after - before < 250


def test_cold_start_runs_the_command_with_its_threads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"import os; open({str(log)!r}, 'a').write(os.environ['RAYON_NUM_THREADS'] + '\\n')"
    result = cold_start([sys.executable, "-c", code], threads=3, repeats=3)
    assert log.read_text() == "3\n" * 3
    assert len(result["cold_start_runs"]) == 3
    assert sorted(result["cold_start_runs"])[1] == result["cold_start_seconds"] > 0


def test_a_command_that_fails_is_an_error_with_its_last_line() -> None:
    code = "import sys; print('first', file=sys.stderr); sys.exit('no such model')"
    with pytest.raises(RetrieveAllError, match="got 1: no such model"):
        cold_start([sys.executable, "-c", code], repeats=1)
    with pytest.raises(RetrieveAllError, match="could not run"):
        cold_start(["/nowhere/retrieveall"], repeats=1)


def test_bad_input(make_model: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="texts to measure"):
        measure(make_model({}, {}), [], command=[])
    with pytest.raises(InputError, match="at least 1 thread"):
        measure(make_model({}, {}), ["a"], threads=0)


def test_the_script_saves_what_it_measured(
    make_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language in ("de", "en"):
        (tmp_path / language).mkdir()
        lines = [f"{language}{i}\tO\n\n" for i in range(9)]
        (tmp_path / language / "test.tsv").write_text("".join(lines))
    texts: list[str] = []

    class Model(type(make_model({}, {}))):  # type: ignore[misc]
        def predict(self, batch: Any, *, language: Any = None) -> Any:
            texts.extend(batch)
            return super().predict(batch)

    monkeypatch.setattr("retrieveall.pipeline.RetrieveAll.from_pretrained", lambda name: Model({}, {}))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    out = tmp_path / "results" / "speed.json"
    arguments = ["--data", str(tmp_path), "--sentences", "6", "--no-cold-start", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stop.value.code == 0
    result = json.loads(out.read_text())
    assert result["sentences"] == 12
    assert result["provenance"]["model"] == "fake"
    assert sorted(texts[:12]) == sorted(f"{language}{i}" for language in ("de", "en") for i in range(6))
    assert len({text[:2] for text in texts[:6]}) == 2  # mixed


def test_the_script_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    arguments = ["--data", str(tmp_path), "--model", str(tmp_path / "none")]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stop.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: expected a model folder")
    assert errors.count("\n") == 1
