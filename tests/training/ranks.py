"""A program that loads the libraries once and then forks the processes of a run, as torchrun would start them.

    python ranks.py JOBS.json

JOBS is a list of ``{"processes": n, "arguments": [...], "losses": folder, "kill_after": steps or null}``: each runs
``retrieveall ARGUMENTS`` in n processes that meet over gloo. What every process's ``training_step`` returned goes to
``losses/RANK.json``, to ``losses/RANK.held`` how many numbers of the backbone it held after its last step, and to
``losses/RANK.found`` what all of them found in the last validation: [probability, words, around, correct]. With
``kill_after`` all processes of the job are killed once a checkpoint of that step is whole.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_rank(job: dict[str, Any], rank: int, port: int) -> int:
    from retrieveall.cli import main
    from retrieveall.training.loop import LoopTrainer
    from retrieveall.training.parallel import Processes

    count = job["processes"]
    if count > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    losses: list[float] = []
    held = 0
    found: list[list[Any]] = []
    step, collect = LoopTrainer.training_step, Processes.collect

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal held
        loss = step(self, *args, **kwargs)
        losses.append(loss.item())
        parts = (getattr(each, "_local_tensor", each) for each in self.model.backbone.parameters())
        held = sum(part.numel() for part in parts)
        return loss

    def collected(self: Any, share: Any) -> Any:
        texts = collect(self, share)
        found[:] = [list(each) for judged in texts for each in judged]
        return texts

    LoopTrainer.training_step = recorded
    Processes.collect = collected
    folder = Path(job["losses"])
    folder.mkdir(parents=True, exist_ok=True)
    sys.argv = ["retrieveall", *job["arguments"]]
    with (folder / f"{rank}.out").open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
    (folder / f"{rank}.json").write_text(json.dumps(losses))
    (folder / f"{rank}.held").write_text(json.dumps(held))
    (folder / f"{rank}.found").write_text(json.dumps(found))
    return int(code or 0)


def run_job(job: dict[str, Any]) -> list[int]:
    port = free_port()
    children = []
    for rank in range(job["processes"]):
        child = os.fork()
        if child == 0:
            os._exit(run_rank(job, rank, port))
        children.append(child)
    deadline = time.monotonic() + 60
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    codes[child] = os.waitstatus_to_exitcode(status)
        stop = job.get("kill_after") and whole(Path(job["run"]), job["kill_after"], job["processes"])
        if stop or time.monotonic() > deadline:
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = -9
        time.sleep(0.005)
    return [codes[child] for child in children]


def whole(run: Path, step: int, processes: int) -> bool:
    folder = run / f"checkpoint-{step}"
    return all(
        (folder / name).is_file() for name in ("trainer_state.json", *(f"rng_state_{r}.pth" for r in range(processes)))
    )


if __name__ == "__main__":
    # So that the forked processes have them: what takes seconds to import, for each of them again.
    import torch
    import torch._dynamo  # by DDP
    import torch.distributed.fsdp
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    import retrieveall.cli
    import retrieveall.training.run  # noqa: F401

    torch.set_num_threads(1)
    print(json.dumps([run_job(job) for job in json.loads(Path(sys.argv[1]).read_text())]))
