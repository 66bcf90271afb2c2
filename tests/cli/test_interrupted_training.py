"""Ctrl-C while ``retrieveall train`` runs: what is kept, what is deleted, and that the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrieveall.cli.folders import run_folder, run_of

OWN_LABELS = Path(__file__).resolve().parents[2] / "examples" / "your_own_labels"
# A shell that starts the tests in the background has told its children to ignore interrupts.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from retrieveall.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(tiny_model: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "mine", tmp_path / "mine.train.run"
    command = [sys.executable, "-c", _PROGRAM, "train", str(OWN_LABELS), "--from", str(tiny_model), "--out", str(out)]
    command += ["--set", "steps=120", "--set", "lora.scalings=[1]", "--set", "checkpoint_minutes=0.001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        while not any(run.rglob("checkpoint-*")):
            assert program.poll() is None, program.communicate()
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=300)
    assert program.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted"
    assert f"the run is kept in {run}; run the same command to resume from its last checkpoint" in said
    assert "Traceback" not in said
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"trained 1 language in {out}" in again.stdout
    assert not run.exists()


def stop(model: Path, files: list[str], named: Path | None = None) -> Path:
    """A run that is interrupted when these files are in its folder."""
    folder = named or run_of(model, "train")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    with pytest.raises(KeyboardInterrupt), run_folder(named, model, "train"):
        raise KeyboardInterrupt
    return folder


def test_a_run_without_a_checkpoint_says_what_is_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stop(tmp_path / "mine", ["run.json", "training.yaml"])
    assert not folder.exists()
    said = capsys.readouterr().err
    assert said == (
        f"note: the run was stopped before its first checkpoint; its folder {folder} was deleted; run the same command "
        "to begin again\n"
    )


def test_examples_outlive_a_run_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They take long to make, and do not depend on the settings of the training; of those, nothing may be left."""
    examples = ["examples/de.safetensors", "en/examples/en.safetensors"]
    folder = stop(tmp_path / "mine", [*examples, "examples/de.safetensors.tmp", "run.json", "together/x/y"])
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {*examples}
    assert not (folder / "together").exists()
    said = capsys.readouterr().err
    assert f"its settings and weights were deleted, its training examples are kept in {folder}; " in said
    with run_folder(None, tmp_path / "mine", "train"):
        pass
    assert not folder.exists(), "the run is complete"


@pytest.mark.parametrize("name", ["checkpoint-3/trainer_state.json", "de/installed.json"])
def test_what_can_be_gone_on_with_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = stop(tmp_path / "mine", [name, "run.json"])
    assert (folder / name).is_file()
    assert (folder / "run.json").is_file()
    assert f"is kept in {folder}; run the same command to resume" in capsys.readouterr().err


def test_a_folder_that_the_user_named_is_never_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stop(tmp_path / "mine", ["run.json"], tmp_path / "named")
    assert folder == tmp_path / "named"
    assert (folder / "run.json").is_file()
    assert f"{folder} is kept; run the same command" in capsys.readouterr().err
    assert not run_of(tmp_path / "mine", "train").exists()


def test_nothing_is_said_where_nothing_was_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop(tmp_path / "mine", [])
    assert capsys.readouterr().err == ""
