"""Commands that kill themselves with SIGKILL at a moment that has a name: a program for the tests, started once.

Reads a line ``[moment or null, [arguments]]`` of JSON from standard input, runs ``retrieveall`` with the arguments in a
fork of itself, and answers with the exit code. It imports what they need once and computes nothing itself, so that
its forks are like processes of their own, seconds cheaper.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_first_checkpoint() -> None:
    from retrieveall.training.loop import LoopTrainer

    LoopTrainer._save_checkpoint = die  # type: ignore[method-assign]


def in_the_middle_of_the_third_checkpoint() -> None:
    from retrieveall.training.loop import LoopTrainer

    save, folders = LoopTrainer._save, []

    def save_half(self: LoopTrainer, output_dir: str | None = None, state_dict: Any = None) -> None:
        save(self, output_dir, state_dict)
        folders.append(output_dir)
        if len(folders) == 3:
            path = Path(str(output_dir), "weights.safetensors")
            os.truncate(path, path.stat().st_size // 2)
            die()

    LoopTrainer._save = save_half  # type: ignore[method-assign]


def before_the_commit() -> None:
    from retrieveall.training.run import Training

    Training.commit = die  # type: ignore[method-assign, assignment]


def before_the_change_is_decided() -> None:
    from retrieveall.storage import Transaction

    stage = Transaction._stage
    Transaction._stage = lambda self: die(stage(self))  # type: ignore[method-assign, assignment, return-value]


def when_half_of_the_change_is_done() -> None:
    from retrieveall.storage import transaction

    apply = transaction._apply

    def apply_half(folder: Path, deleted: list[str], moved: list[str]) -> None:
        apply(folder, deleted, moved[: len(moved) // 2])
        die()

    transaction._apply = apply_half


def run(moment: str | None, arguments: list[str]) -> int:
    child = os.fork()
    if child == 0:
        from retrieveall.cli import main

        if moment is not None:
            globals()[moment]()
        os.dup2(2, 1)  # standard output is for the answers
        sys.argv[:] = ["retrieveall", *arguments]
        code: Any = 1
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    import accelerate  # noqa: F401
    from transformers import Trainer  # noqa: F401

    import retrieveall.training.run  # noqa: F401

    for line in sys.stdin:
        print(run(*json.loads(line)), flush=True)
