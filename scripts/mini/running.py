"""What every training of the shipped model needs: steps, checkpoints, several processes, a moving average.

Knows a Llama and groups of its parameters; knows nothing of what is learnt.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from machine import fast_bfloat16  # type: ignore[import-not-found]
from packing import Batch, Flat, pack  # type: ignore[import-not-found]
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaForCausalLM

__all__ = ["DroppedLinear", "Run", "add_arguments", "add_dropout", "advance", "epochs", "finish", "learn_tags"]


def add_arguments(parser: argparse.ArgumentParser, **defaults: float) -> None:
    """The options of every run; their defaults are the caller's, except where all runs agree."""
    parser.add_argument("--lr", type=float)
    parser.add_argument("--decay", type=float)
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--word-dropout", type=float)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--row-length", type=int)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--checkpoint-minutes", type=float)
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", default=fast_bfloat16())
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(**defaults)


class DroppedLinear(nn.Linear):
    """A linear layer with dropout on its output: Llama has no residual dropout of its own. Same parameter names."""

    rate = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().forward(x), self.rate, self.training)


def add_dropout(model: LlamaForCausalLM, rate: float) -> None:
    for layer in model.model.layers:
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            if not isinstance(module, DroppedLinear):
                module.__class__ = DroppedLinear
            module.rate = rate


class Run:
    """Model, optimiser, moving average and step, saved and restored together."""

    def __init__(self, args: argparse.Namespace, model: LlamaForCausalLM, groups: list[dict[str, Any]]) -> None:
        """``groups`` are those of torch's optimisers; what is in none of them stays as it is."""
        self.args = args
        self.model = model
        self.model.train()
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.bases = [group["lr"] for group in groups]
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0  # of all workers
        self.seconds = 0.0
        self.workers = Workers(args)
        self.forward = torch.compile(self.model.model, dynamic=False) if args.compile else self.model.model
        self.resume()

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[rows * length, width]"""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            embedded = F.dropout(self.model.get_input_embeddings()(batch.ids), self.args.dropout)
            out = self.forward(
                inputs_embeds=embedded,
                attention_mask=additive(batch.mask()),
                position_ids=batch.positions,
                use_cache=False,
            )
        return out.last_hidden_state.flatten(0, 1)

    def update(self, loss: torch.Tensor, progress: float) -> None:
        """One step of AdamW; linear warm-up over 3% of the run, then cosine to 3%."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = min(1.0, (progress + 1e-3) / 0.03) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        for group, base in zip(self.optimizer.param_groups, self.bases, strict=True):
            group["lr"] = base * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += self.workers.count
        if self.step // self.workers.count % 10 == 0:
            decay = min(0.98, 1 - 10 / (self.step + 10))
            for mean, p in zip(self.average, self.parameters, strict=True):
                mean.lerp_(p.detach(), 1 - decay)

    def meet(self) -> None:
        """Average weights, their moving averages and the optimiser's moments over the workers, now and then."""
        moments = [self.optimizer.state[p][name] for p in self.parameters for name in ("exp_avg", "exp_avg_sq")]
        self.step = self.workers.meet([p.data for p in self.parameters] + self.average + moments, self.step)

    def save(self) -> None:
        """Checkpoint beside, then rename: a kill leaves the old one or the new one."""
        state = {}
        for i, p in enumerate(self.parameters):
            state[f"p{i}"], state[f"a{i}"] = p.detach(), self.average[i]
            moments = self.optimizer.state[p]
            state[f"m{i}"], state[f"v{i}"], state[f"s{i}"] = (
                moments["exp_avg"],
                moments["exp_avg_sq"],
                moments["step"],
            )
        self.args.out.mkdir(parents=True, exist_ok=True)
        part = self.args.out / "checkpoint.part"
        save_file(state, str(part), {"step": str(self.step), "seconds": str(self.seconds)})
        part.replace(self.args.out / "checkpoint.safetensors")

    def resume(self) -> None:
        path = self.args.out / "checkpoint.safetensors"
        if not path.exists():
            return
        from safetensors import safe_open

        state = load_file(str(path))
        with safe_open(str(path), "pt") as file:
            note = file.metadata()
        with torch.no_grad():
            for i, p in enumerate(self.parameters):
                p.copy_(state[f"p{i}"])
                self.average[i].copy_(state[f"a{i}"])
                self.optimizer.state[p] = {
                    "step": state[f"s{i}"], "exp_avg": state[f"m{i}"], "exp_avg_sq": state[f"v{i}"],
                }  # fmt: skip
        self.step, self.seconds = int(note["step"]), float(note["seconds"])
        print(f"resumed at step {self.step}", flush=True)

    def export(self, folder: Path, *, averaged: bool) -> None:
        """The model as a Hugging Face folder, of the averaged weights if wanted."""
        current = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            if averaged:
                for p, mean in zip(self.parameters, self.average, strict=True):
                    p.copy_(mean)
            self.model.save_pretrained(folder)
            for p, value in zip(self.parameters, current, strict=True):
                p.copy_(value)


class Workers:
    """Processes that train on their own and average what they have every ``meet_seconds`` (local SGD, Stich 2019).

    By the clock and not by steps: a core that is busy with something else makes fewer steps and delays no one.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.count, self.rank = args.workers, args.worker
        self._seconds = args.meet_seconds
        self._own = 0
        self._met = 0
        self._last = int(time.time() // self._seconds)
        if self.count > 1:
            dist.init_process_group("gloo", init_method=f"file://{args.out.resolve()}/workers", rank=self.rank,
                                    world_size=self.count)  # fmt: skip

    def start(self, step: int) -> None:
        """The clock begins together, after what each does first on its own."""
        self._met, self._own = step, 0
        if self.count > 1:
            dist.barrier()
        self._last = int(time.time() // self._seconds)

    def due(self) -> bool:
        """Counts a step; whether a minute is over."""
        self._own += 1
        now = int(time.time() // self._seconds)
        if self.count == 1 or now == self._last:
            return False
        self._last += 1  # one at a time, so that all meet as often
        return True

    def meet(self, tensors: list[torch.Tensor], step: int) -> int:
        """Average ``tensors`` in place, by the steps each worker has made since the last time; the steps of all."""
        total = torch.tensor([float(self._own)])
        dist.all_reduce(total)
        flat = torch.cat([tensor.flatten() for tensor in tensors]).mul_(self._own / total.item())
        dist.all_reduce(flat)
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        self._met += int(total.item())
        self._own = 0
        return self._met

    def agree(self, value: float) -> float:
        """The mean of a number over the workers."""
        mean = torch.tensor([value])
        if self.count > 1:
            dist.all_reduce(mean)
        return mean.item() / self.count


def advance(run: Run, loss: torch.Tensor, losses: list[float], started: float) -> tuple[float, bool]:
    """One step and what belongs to it: meeting, reporting, a checkpoint. The clock, and whether the run is over."""
    args = run.args

    def progress() -> float:
        if args.minutes:
            return (run.seconds + time.monotonic() - started) / 60 / args.minutes
        return run.step / args.steps

    losses.append(loss.item())
    run.update(loss, progress())
    count = run.workers.count
    met = run.workers.due()
    if met:
        run.meet()
    if run.step // count % 50 == 0 and run.workers.rank == 0:
        report(run, losses, started)
    if count == 1 or met:
        over = run.workers.agree(progress()) >= 1 if count > 1 else progress() >= 1
        if time.monotonic() - started > args.checkpoint_minutes * 60:
            started = checkpoint(run, started)
        return started, over
    return started, False


def additive(mask: torch.Tensor) -> torch.Tensor:
    """0 where attention may go and a very negative number elsewhere.

    The fused attention of torch runs one small product a head on the CPU; plain batched products, which take this
    form of mask, made a training step twice as fast.
    """
    return torch.zeros(mask.shape).masked_fill(~mask, -1e9)


def epochs(sources: list[Flat], run: Run, weights: list[float]) -> Iterator[Batch]:
    """Batches without end; which source a sequence comes from is drawn every epoch.

    One worker skips what it has seen before it was resumed; of several each has an order of its own, anew every start.
    """
    args, count = run.args, len(sources[0])
    skip = run.step if run.workers.count == 1 else 0
    start = 0 if run.workers.count == 1 else run.step
    epoch = 0
    while True:
        rng = np.random.default_rng([args.seed, 7919, epoch, run.workers.rank, start])
        choice = rng.choice(len(sources), size=count, p=np.array(weights) / sum(weights))
        batches = 0
        for batch in pack(sources, choice, rng.permutation(count), args.rows, args.row_length, pad=0):
            batches += 1
            if skip:
                skip -= 1
            else:
                yield batch
        if not batches:
            sys.exit(f"expected enough sentences for one batch of {args.rows} rows, got {count}; give --rows less")
        epoch += 1
        print(f"epoch {epoch} done", flush=True)


def learn_tags(run: Run, sources: list[Flat], weights: list[float], tag_ids: list[int], mask: int) -> None:
    """Train on the tags of packed sentences to the end of the run; some of the words are hidden."""
    args = run.args
    tags = torch.tensor(tag_ids)
    run.workers.start(run.step)
    started, losses = time.monotonic(), []
    for batch in epochs(sources, run, weights):
        rng = np.random.default_rng([args.seed, args.worker, run.step])
        torch.manual_seed((args.seed + args.worker) * 1_000_003 + run.step)
        flat = batch.ids.flatten()
        hide = torch.from_numpy(rng.random(len(flat)) < args.word_dropout) & (flat > mask)
        batch.ids = torch.where(hide, mask, flat).view_as(batch.ids)
        states = run.hidden(batch)[batch.reads]
        logits = states.float() @ run.model.get_output_embeddings().weight[tags].T
        loss = F.cross_entropy(logits, batch.tags, label_smoothing=args.smoothing)
        started, over = advance(run, loss, losses, started)
        if over:
            break
    finish(run, started)


def report(run: Run, losses: list[float], started: float) -> None:
    seconds = run.seconds + time.monotonic() - started
    tokens = run.step * run.args.rows * run.args.row_length
    print(
        f"step {run.step} loss {np.mean(losses[-100:]):.4f} {tokens / seconds:,.0f} tokens/s {seconds / 60:.1f} min",
        flush=True,
    )


def checkpoint(run: Run, started: float) -> float:
    now = time.monotonic()
    run.seconds += now - started
    if run.workers.rank == 0:
        run.save()
    return time.monotonic()


def finish(run: Run, started: float) -> None:
    checkpoint(run, started)
    if run.workers.rank:
        return
    run.export(run.args.out, averaged=True)
    (run.args.out / "run.json").write_text(
        json.dumps(
            {k: str(v) for k, v in vars(run.args).items()} | {"step": run.step, "seconds": run.seconds},
            indent=1,
        )
    )
