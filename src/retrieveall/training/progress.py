"""What a run of ``transformers.Trainer`` tells while it goes on: readable lines on standard error.

The Trainer's own way is to print dictionaries to standard output, which holds the results of a command and nothing
else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

__all__ = ["describe", "report_no_checkpoint", "report_on_stderr", "report_scores"]

_F1 = "eval_f1"


def report_on_stderr(trainer: Trainer) -> None:
    """Let lines take the place of what the Trainer prints, above its bar where it draws one."""
    if trainer.pop_callback(PrinterCallback) is not None:
        trainer.add_callback(_Lines())
    if trainer.pop_callback(ProgressCallback) is not None:  # in a notebook there is a table of its own instead
        trainer.add_callback(_LinesAboveBar())


class _Lines(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any
    ) -> None:
        line = describe(logs, state.global_step, state.max_steps)
        if line and state.is_world_process_zero:
            print(line, file=sys.stderr, flush=True)


class _LinesAboveBar(ProgressCallback):  # type: ignore[misc]
    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any
    ) -> None:
        line = describe(logs, state.global_step, state.max_steps)
        if line and self.training_bar is not None:  # the first process has it
            self.training_bar.write(line, file=sys.stderr)


def report_no_checkpoint(folder: Path, minutes: float) -> None:
    """Say why a run that was begun before starts anew."""
    print(
        f"note: {folder} holds no checkpoint of this run yet, so it starts from the beginning; they are written every "
        f"{minutes:g} minute{'s' * (minutes != 1)} (--set checkpoint_minutes=1)",
        file=sys.stderr,
        flush=True,
    )


def report_scores(scores: Mapping[str, float]) -> None:
    """Say what the last validation found, by language."""
    print(f"validation {_f1_of(scores)}", file=sys.stderr, flush=True)


def describe(logs: Mapping[str, Any], step: int, steps: int) -> str | None:
    """One line about what was logged: loss, F1 per language, or throughput; None for anything else."""
    where = f"step {step} of {steps}"
    if "loss" in logs:
        return f"{where}: loss {logs['loss']:.4f}"
    if _F1 in logs:
        languages = {name.removeprefix(_F1 + "_"): f1 for name, f1 in logs.items() if name.startswith(_F1 + "_")}
        return f"{where}: validation {_f1_of(languages)}"
    if "train_runtime" in logs:
        return f"trained {step} steps in {logs['train_runtime']:.0f} s"
    return None


def _f1_of(scores: Mapping[str, float]) -> str:
    """The mean, and each."""
    each = ", ".join(f"{name} {100 * f1:.1f}" for name, f1 in scores.items())
    return f"F1 {100 * sum(scores.values()) / max(1, len(scores)):.1f} ({each})"
