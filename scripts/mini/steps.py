"""Long work as a list of commands: each leaves a file behind, and one whose file is there is not done again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["LANGUAGES", "PASSES", "RANK", "RATE", "Step", "do", "joint_tagging", "script", "share_of", "training_data"]

HERE = Path(__file__).parent
LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")


SWAPPED_SHARE = 0.4
"""Of the sentences a training sees, those whose mentions are replaced by others."""

RANK = 16
"""Of the shipped adapters."""

RATE = 2e-3
"""Learning rate of adapters of that rank."""

PASSES = 3
"""Of an adapter over its data."""


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


def training_data(build: Path) -> list[object]:
    """The arguments for the prepared sentences of ``build``, as they are and with mentions swapped."""
    return ["--data", build / "prepared", "--swapped", build / "swapped", "--swap", SWAPPED_SHARE]


class Round(NamedTuple):
    """One round of joint tagging; ``knowledge`` are the shares of sentences with none, one and both of its levels."""

    name: str
    steps: int
    rate: float
    seed: int
    knowledge: tuple[float, float, float]


# After none of the first three had the model learnt all it could. The last shows what the model is shown in use.
ROUNDS = (
    Round("joint tagging", 15000, 1e-3, 13, (0.15, 0.4, 0.45)),
    Round("joint tagging, second round", 4800, 6e-4, 14, (0.15, 0.4, 0.45)),
    Round("joint tagging, third round", 8000, 8e-4, 15, (0.15, 0.4, 0.45)),
    Round("joint tagging, fourth round", 8000, 8e-4, 16, (0.1, 0.9, 0.0)),
)


def share_of(steps: int, share: float) -> int:
    """A share of a training's steps, at least one."""
    return max(1, round(share * steps))


def joint_tagging(
    start: Path,
    folders: Sequence[Path],
    minutes: Sequence[float],
    *arguments: object,
    knowledge: bool = True,
    share: float = 1.0,
) -> list[Step]:
    """The rounds of joint tagging: the first begins from the model in ``start``, each leaves one in its of ``folders``.

    Args:
        minutes: of each round.
        arguments: of ``backbone.py tags``, the same in every round.
        knowledge: whether any sentence is shown some. Without it a sentence takes half of the tokens, in the last round
            two thirds, and batches are as much smaller, so that every step has as many sentences.
        share: of the steps of every round, and so of its minutes.
    """
    steps = []
    for folder, cost, each in zip(folders, minutes, ROUNDS, strict=True):
        shares, rows = (each.knowledge, 30) if knowledge else ((1, 0, 0), 15 if each.knowledge[2] else 20)
        command = script("backbone.py", "tags", "--start", start, *arguments, "--dropout", 0.15,
                         "--word-dropout", 0.08, "--rows", rows, "--row-length", 128,
                         "--steps", share_of(each.steps, share), "--lr", each.rate, "--seed", each.seed,
                         "--knowledge", *shares, "--out", folder)  # fmt: skip
        steps.append(Step(each.name, share * cost, folder / "model.safetensors", command))
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
