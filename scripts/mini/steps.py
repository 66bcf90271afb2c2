"""Long work as a list of commands: each leaves a file behind, and one whose file is there is not done again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGES", "Step", "do", "joint_tagging", "script", "swapped"]

HERE = Path(__file__).parent
LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")


SWAPPED_SHARE = 0.4
"""Of the sentences a training sees, those whose mentions are replaced by others."""


@dataclass(frozen=True)
class Step:
    """A command, the file it leaves behind, and the minutes it took, with one core to itself unless it says workers."""

    name: str
    minutes: float
    output: Path
    command: list[str]


def script(name: str, *arguments: object) -> list[str]:
    """The command that runs a script of this folder, or with ``retrieveall`` as its name the program."""
    start = ["-m", "retrieveall"] if name == "retrieveall" else [str(HERE / name)]
    return [sys.executable, *start, *map(str, arguments)]


def swapped(build: Path) -> list[object]:
    """The arguments for the data of ``build`` with mentions swapped."""
    return ["--swapped", build / "swapped", "--swap", SWAPPED_SHARE]


ROUNDS = (("", 15000, 1e-3, 13), (", second round", 4800, 6e-4, 14), (", third round", 8000, 8e-4, 15))
"""Joint tagging of the shipped model: steps, rate and seed. After the first two it had not learnt all it could."""


def joint_tagging(
    start: Path, folders: Sequence[Path], minutes: Sequence[float], *arguments: object, name: str = "joint tagging"
) -> list[Step]:
    """The rounds of joint tagging: the first begins from the model in ``start``, each leaves one in its of ``folders``.

    Args:
        minutes: of each round.
        arguments: of ``backbone.py tags``, the same in every round.
    """
    steps = []
    for folder, cost, (which, count, rate, seed) in zip(folders, minutes, ROUNDS, strict=True):
        command = script("backbone.py", "tags", "--start", start, *arguments, "--dropout", 0.15,
                         "--word-dropout", 0.08, "--steps", count, "--lr", rate, "--seed", seed,
                         "--out", folder)  # fmt: skip
        steps.append(Step(name + which, cost, folder / "model.safetensors", command))
        start = folder
    return steps


def do(steps: Sequence[Step], *, only_plan: bool = False) -> None:
    """Print what is to be done and its cost, then do it.

    Raises:
        SystemExit: a command failed, or did not leave its file behind.
    """
    todo = [step for step in steps if not step.output.exists()]
    print(f"{len(todo)} steps, about {sum(step.minutes for step in todo):.0f} minutes on one core:")
    for step in todo:
        print(f"  {step.minutes:5.1f} min  {step.name}", flush=True)
    if only_plan:
        return
    for step in todo:
        print(f"== {step.name}", flush=True)
        started = time.monotonic()
        if subprocess.run(step.command, check=False).returncode or not step.output.exists():
            sys.exit(f"{step.name} failed; once the reason is gone, start again and it goes on from there")
        print(f"== {step.name}: {(time.monotonic() - started) / 60:.1f} min", flush=True)
