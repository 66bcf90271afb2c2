"""Ctrl-C while ``retrieveall train`` runs, as a process: a checkpoint is kept, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
