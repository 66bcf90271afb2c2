"""Steps 3 and 4 of the shipped model: the backbone, from word2vec vectors by masked words, then by joint tagging.

    python scripts/mini/backbone.py words --data runs/mini/text.safetensors ... --out runs/mini/words
    python scripts/mini/backbone.py tags --start runs/mini/words --data runs/mini/prepared ... --out runs/mini/tags

Checkpoints every few minutes (safetensors and JSON); started again with the same arguments, it goes on from the last.
With ``--workers N`` N processes, one a core, train side by side and average their weights every minute.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from machine import fast_bfloat16  # type: ignore[import-not-found]
from packing import Batch, Flat, pack  # type: ignore[import-not-found]


class DroppedLinear(nn.Linear):
    """A linear layer with dropout on its output: Llama has no residual dropout of its own. Same parameter names."""

    rate = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().forward(x), self.rate, self.training)


def build_model(args: argparse.Namespace, vocabulary: int) -> LlamaForCausalLM:
    """A Llama of the given size; embeddings from word2vec, scaled to a root mean square of ``args.embedding_scale``."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=args.width, intermediate_size=args.inner, num_hidden_layers=args.layers,
        num_attention_heads=args.heads, num_key_value_heads=args.heads, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(args.seed)
    model = LlamaForCausalLM(config)
    if args.vectors:
        vectors = load_file(str(args.vectors))["vectors"]
        known = vectors.abs().sum(dim=1) > 0
        vectors = vectors - vectors[known].mean(dim=0)
        # Half way to equal lengths: word2vec makes frequent words long.
        vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6).sqrt()
        vectors = vectors * (args.embedding_scale / vectors[known].pow(2).mean().sqrt())
        with torch.no_grad():
            weight = model.get_input_embeddings().weight
            weight.normal_(0, args.embedding_scale / 4)
            weight[known] = vectors[known]
    if args.start:
        model.load_state_dict(load_file(str(args.start / "model.safetensors")), strict=False)
        model.tie_weights()
    return model


def add_dropout(model: LlamaForCausalLM, rate: float) -> None:
    for layer in model.model.layers:
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            module.__class__ = DroppedLinear
            module.rate = rate


class Run:
    """Model, optimiser, moving average and step, saved and restored together."""

    def __init__(self, args: argparse.Namespace, vocabulary: int) -> None:
        self.args = args
        self.model = build_model(args, vocabulary)
        add_dropout(self.model, args.dropout)
        self.model.train()
        embedding = self.model.get_input_embeddings().weight
        body = [p for p in self.model.parameters() if p is not embedding]
        self.parameters = [embedding, *body]
        groups = [
            {"params": [embedding], "lr": args.lr * args.embedding_lr, "weight_decay": 0.0},
            {"params": body, "lr": args.lr, "weight_decay": args.decay},
        ]
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
        self.count, self.rank = args.workers, args.rank
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


def load_flat(path: Path) -> Flat:
    arrays = {name: tensor.numpy() for name, tensor in load_file(str(path)).items()}
    return Flat(**arrays)


def join(parts: list[Flat]) -> Flat:
    """Several sets as one."""

    def ends(name: str) -> np.ndarray:
        lengths = np.concatenate([np.diff(getattr(part, name)) for part in parts])
        return np.concatenate([[0], np.cumsum(lengths)])

    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "reads", "starts", "tags")
    }
    return Flat(**columns, offsets=ends("offsets"), read_offsets=ends("read_offsets"))


def train_words(run: Run, args: argparse.Namespace, mask: int, specials: int) -> None:
    """Masked words: 20% of the tokens are hidden and predicted among the batch's targets and sampled tokens."""
    data = join([load_flat(path) for path in args.data])
    vocabulary = run.model.config.vocab_size
    frequency = np.bincount(data.ids, minlength=vocabulary).astype(float) ** 0.75
    frequency[:specials] = 0
    frequency /= frequency.sum()
    cumulative = np.cumsum(frequency)
    run.workers.start(run.step)
    started, losses = time.monotonic(), []
    for batch in epochs([data], run, weights=[1.0]):
        rng = np.random.default_rng([args.seed, args.rank, run.step])
        torch.manual_seed((args.seed + args.rank) * 1_000_003 + run.step)
        flat = batch.ids.flatten()
        hide = torch.from_numpy(rng.random(len(flat)) < 0.2) & (batch.segments.flatten() > 0)
        where = hide.nonzero()[:, 0]
        gold = flat[where]
        shown_ids = flat.clone()
        swap = torch.from_numpy(rng.random(len(where)))
        shown_ids[where[swap < 0.85]] = mask
        batch.ids = shown_ids.view_as(batch.ids)
        states = run.hidden(batch)[where]
        negatives = torch.from_numpy(np.searchsorted(cumulative, rng.random(4096)).clip(max=vocabulary - 1))
        candidates, inverse = torch.unique(torch.cat([gold, negatives]), return_inverse=True)
        table = run.model.get_input_embeddings().weight[candidates]
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = states @ table.T
        # Sampled softmax: subtracting log q makes the loss an estimate of the full one (Jean et al. 2015).
        logits = (
            logits.float() - torch.from_numpy(np.log(frequency[candidates.numpy()] * 4096 + 1e-9).clip(-6, 0)).float()
        )
        loss = F.cross_entropy(logits, inverse[: len(gold)])
        started, over = advance(run, loss, losses, started)
        if over:
            break
    finish(run, started)


def train_tags(run: Run, args: argparse.Namespace, mask: int, tag_ids: list[int]) -> None:
    """Joint tagging of all languages; every pass draws anew how much knowledge a sentence is shown."""
    sources, weights = [], []
    for folders, share in ((args.data, 1 - args.swap), (args.swapped, args.swap)):
        for name, weight in zip(("none", "entity", "full"), args.knowledge, strict=True):
            if share * weight:
                sources.append(join([load_flat(folder / f"train.{name}.safetensors") for folder in folders]))
                weights.append(share * weight)
    tags = torch.tensor(tag_ids)
    run.workers.start(run.step)
    started, losses = time.monotonic(), []
    for batch in epochs(sources, run, weights):
        rng = np.random.default_rng([args.seed, args.rank, run.step])
        torch.manual_seed((args.seed + args.rank) * 1_000_003 + run.step)
        flat = batch.ids.flatten()
        hide = torch.from_numpy(rng.random(len(flat)) < args.word_dropout) & (flat > mask)
        batch.ids = torch.where(hide, mask, flat).view_as(batch.ids)
        states = run.hidden(batch)[batch.reads]
        logits = states.float() @ run.model.get_input_embeddings().weight[tags].T
        loss = F.cross_entropy(logits, batch.tags, label_smoothing=args.smoothing)
        started, over = advance(run, loss, losses, started)
        if over:
            break
    finish(run, started)


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
        for batch in pack(sources, choice, rng.permutation(count), args.rows, args.row_length, pad=0):
            if skip:
                skip -= 1
            else:
                yield batch
        epoch += 1
        print(f"epoch {epoch} done", flush=True)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["words", "tags"])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of text, or folders of prompts")
    parser.add_argument("--swapped", type=Path, nargs="*", default=[], help="folders with mentions swapped, in order")
    parser.add_argument("--swap", type=float, default=0.0, help="share of sentences taken from --swapped")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, help="word2vec vectors to start from")
    parser.add_argument("--start", type=Path, help="folder of a model to start from")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float, help="the schedule runs by the clock")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meet-seconds", type=float, default=60)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--inner", type=int, default=704)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--embedding-scale", type=float, default=0.25)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--embedding-lr", type=float, default=0.5)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--word-dropout", type=float, default=0.1)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--knowledge", type=float, nargs=3, default=[0.2, 0.4, 0.4])
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--row-length", type=int, default=160)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", default=fast_bfloat16())
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    others = []
    if args.workers > 1 and args.rank == 0:
        (args.out / "workers").unlink(missing_ok=True)  # where the workers of an earlier start met
        others = [subprocess.Popen([sys.executable, *sys.argv, "--rank", str(i)]) for i in range(1, args.workers)]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    mask = tokenizer.token_to_id("<|mask|>")
    tag_ids = [tokenizer.token_to_id(f"<|tag{i}|>") for i in range(13)]
    run = Run(args, tokenizer.get_vocab_size())
    if args.task == "words":
        train_words(run, args, mask, specials=135)
    else:
        train_tags(run, args, mask, tag_ids)
    for other in others:
        other.wait()


if __name__ == "__main__":
    main()
