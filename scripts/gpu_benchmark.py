"""Speed and memory at the true shapes of large backbones, random weights, adapters mixed by row; for a GPU.

    python scripts/gpu_benchmark.py --out benchmarks/results/gpu.json
    python scripts/gpu_benchmark.py --shape qwen2.5-7b --rows 32 --out FILE

For every shape: the card's measured bf16 matmul peak; tagging (one forward pass) without adapters, with one adapter,
with a batch that mixes them, with mixtures of three, and PEFT's ``adapter_names``; writing answers token by token;
one training step with and without gradient checkpointing. Nothing is downloaded: weights are made on the device.
The contestants of a section take turns; medians go to the file as JSON, with the card and the versions. What does not
fit into memory is null. ``--shape tiny`` runs anywhere, to test the script.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

SHAPES = ("llama-3-8b", "qwen2.5-7b", "qwen2.5-14b")
TINY = {
    "model_type": "qwen2",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TAGS = 29  # BIOES over seven labels

Contestants = Mapping[str, Callable[[], Any]]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", action="append", choices=(*SHAPES, "tiny"), help="repeatable; all but tiny if none")
    parser.add_argument("--device", default=None, help="the GPU where there is one")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64, help="of a batch for tagging and writing")
    parser.add_argument("--tokens", type=int, default=320, help="of a row: prompt, text and its repeat")
    parser.add_argument("--new-tokens", type=int, default=64, help="that are written")
    parser.add_argument("--training-rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-size", type=int, default=8192, help="side of the matrices that measure the peak")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    return parser.parse_args(arguments)


class Clock:
    """Seconds of contestants that take turns, the device's queue empty before and after each."""

    def __init__(self, device: Any, rounds: int) -> None:
        self.device, self.rounds = device, rounds

    def sync(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def once(self, run: Callable[[], Any]) -> float:
        self.sync()
        start = time.perf_counter()
        run()
        self.sync()
        return time.perf_counter() - start

    def medians(self, contestants: Contestants) -> dict[str, float]:
        """Median seconds of each; the first two rounds warm up."""
        order = random.Random(0)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(self.rounds + 2):
            for name in order.sample(list(contestants), len(contestants)):
                spent = self.once(contestants[name])
                if number >= 2:
                    seconds[name].append(spent)
        return {name: statistics.median(times) for name, times in seconds.items()}


def matmul_peak(clock: Clock, dtype: Any, size: int) -> float:
    """Floating point operations a second of a square product, the best of the rounds."""
    import torch

    a, b = (torch.randn(size, size, device=clock.device, dtype=torch.float32).to(dtype) for _ in range(2))
    best = min(clock.once(lambda: torch.mm(a, b)) for _ in range(clock.rounds + 5))
    return float(2 * size**3 / best)


def make_backbone(shape: str, device: Any, dtype: Any) -> Any:
    """A causal language model of that shape with random weights, made on the device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if shape == "tiny":
        facts = dict(TINY)
    else:
        from retrieveall.backbones import find_preset

        facts = find_preset(shape).architecture.model_dump()
    bias = facts.pop("qkv_bias", False)
    if facts["model_type"] == "llama":
        facts["attention_bias"] = bias
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.requires_grad_(False)
    return model.eval()


def make_weights(model: Any, rank: int, seed: int) -> Any:
    """A random adapter of every linear layer in ``TARGETS``, made on the device."""
    import torch

    from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights

    generator = torch.Generator(model.device).manual_seed(seed)
    shape = LoraShape(rank, 2.0 * rank, target_modules=TARGETS)
    layers = {}
    for name, module in model.named_modules():
        if name.endswith(TARGETS):
            options = {"device": model.device, "generator": generator}
            a = torch.randn(rank, module.in_features, **options) * 0.02
            b = torch.randn(module.out_features, rank, **options) * 0.02
            layers[name] = LoraLayer(a, b, shape.scaling_of(name))
    return LoraWeights(shape, layers)


def operations(model: Any, tokens: int) -> float:
    """Of one row's forward pass through the layers: two for each weight and token, and those of causal attention."""
    linear = sum(module.weight.numel() for name, module in model.named_modules() if name.endswith(TARGETS))
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # Scores and values, two operations each, over half of the pairs of tokens.
    attention = 2.0 * config.num_attention_heads * head * tokens**2 * config.num_hidden_layers
    return 2.0 * linear * tokens + attention


class Bench:
    """One backbone, its adapters and a batch."""

    def __init__(self, args: argparse.Namespace, shape: str, device: Any) -> None:
        import torch

        from retrieveall.adapters.bank import AdapterBank

        self.args = args
        self.clock = Clock(device, args.rounds)
        self.model = make_backbone(shape, device, getattr(torch, args.dtype))
        self.bank = AdapterBank.attach(self.model, max_loaded=args.adapters)
        vocabulary = self.model.config.vocab_size
        self.ids = torch.randint(0, vocabulary, (args.rows, args.tokens), device=device)
        self.mask = torch.ones_like(self.ids)
        self.tag_ids = torch.arange(min(TAGS, vocabulary), device=device)
        # The last third of a row is the repeat; every second token ends a word.
        inside = range(args.tokens * 2 // 3, args.tokens, 2)
        self.reads = torch.tensor([b * args.tokens + r for b in range(args.rows) for r in inside], device=device)
        self.numbers = sorted(row % args.adapters for row in range(args.rows))
        count = args.adapters
        self.plans: dict[str, list[dict[str, float]] | None] = {
            "base": None,
            "one adapter": [{"l0": 1.0}] * args.rows,
            "mixed": [{f"l{n}": 1.0} for n in self.numbers],
            "mixed, rows shuffled": [{f"l{n}": 1.0} for n in random.Random(3).sample(self.numbers, args.rows)],
            "mixtures of three": [
                {f"l{n}": 0.5, f"l{(n + 1) % count}": 0.3, f"l{(n + 2) % count}": 0.2} for n in self.numbers
            ],
        }

    def load(self) -> None:
        for number in range(self.args.adapters):
            self.bank.add(f"l{number}", make_weights(self.model, self.args.rank, number))

    def using(self, plan: Sequence[Mapping[str, float]] | None) -> Any:
        return nullcontext() if plan is None else self.bank.use(plan)

    def tag(self, plan: Sequence[Mapping[str, float]] | None) -> Any:
        from retrieveall.engines.local.forward import score_tokens

        with self.using(plan):
            return score_tokens(self.model, self.ids, self.mask, self.reads, self.tag_ids)

    def write(self, plan: Sequence[Mapping[str, float]] | None, step: Callable[..., Any] | None = None) -> Any:
        """Greedy, without a grammar: scripts/grammar_overhead.py measures that."""
        run = step or self.model
        with self.using(plan):
            out = run(input_ids=self.ids, use_cache=True, logits_to_keep=1)
            for _ in range(self.args.new_tokens - 1):
                token = out.logits[:, -1].argmax(dim=1, keepdim=True)
                out = run(input_ids=token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
        return out

    def peft(self) -> Any:
        """The same backbone with PEFT's own layers in place of the bank, for good."""
        import peft

        self.bank.detach()
        lora = peft.LoraConfig(
            r=self.args.rank, lora_alpha=2 * self.args.rank, target_modules=list(TARGETS), task_type="CAUSAL_LM"
        )
        wrapped = peft.get_peft_model(self.model, lora, adapter_name="l0", autocast_adapter_dtype=False)
        for number in range(1, self.args.adapters):
            wrapped.add_adapter(f"l{number}", lora, autocast_adapter_dtype=False)
        return wrapped.eval()


def tagging(bench: Bench) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        return bench.clock.medians({name: (lambda p=plan: bench.tag(p)) for name, plan in bench.plans.items()})


def writing(bench: Bench) -> dict[str, float]:
    import torch

    plans = {name: bench.plans[name] for name in ("base", "one adapter", "mixed")}
    with torch.inference_mode():
        return bench.clock.medians({name: (lambda p=plan: bench.write(p)) for name, plan in plans.items()})


def with_peft(bench: Bench) -> dict[str, dict[str, float]]:
    """PEFT's ``adapter_names`` over the same rows."""
    import torch

    wrapped = bench.peft()
    names = [f"l{number}" for number in bench.numbers]

    def tag() -> Any:
        # One position through the whole vocabulary instead of the tags of all words: as few operations.
        return wrapped(
            input_ids=bench.ids, attention_mask=bench.mask, use_cache=False, logits_to_keep=1, adapter_names=names
        )

    def step(**inputs: Any) -> Any:
        return wrapped(adapter_names=names, **inputs)

    with torch.inference_mode():
        return {
            "tagging": bench.clock.medians({"peft adapter_names": tag}),
            "writing": bench.clock.medians({"peft adapter_names": lambda: bench.write(None, step)}),
        }


def training(bench: Bench, *, checkpointing: bool) -> dict[str, Any]:
    """Seconds and peak memory of a step: forward, backward, AdamW, all adapters in one batch."""
    import torch

    from retrieveall.config import LoraSettings, TrainingConfig
    from retrieveall.training.loss import PredictionLoss

    args, rows = bench.args, bench.args.training_rows
    languages = [f"l{number}" for number in range(args.adapters)]
    lora = LoraSettings(rank=args.rank, alpha=2.0 * args.rank, dropout=0.05)
    bench.bank.trainable(languages, lora, 0)
    device = bench.clock.device
    model = PredictionLoss(
        bench.model, bench.bank, bench.tag_ids.tolist(),
        TrainingConfig(lora=lora, gradient_checkpointing=checkpointing),
        languages=languages, full_attention=False, packed=False,
    ).to(device).train()  # fmt: skip
    optimiser = torch.optim.AdamW(bench.bank.parameters(), lr=1e-4)
    ids = bench.ids[:1].expand(rows, -1).contiguous()
    reads = torch.cat([row * args.tokens + torch.arange(args.tokens // 2, args.tokens, 2) for row in range(rows)])
    batch = {
        "ids": ids,
        "segments": torch.ones_like(ids),
        "places": torch.arange(args.tokens, device=device).expand(rows, -1),
        "reads": reads.to(device),
        "labels": torch.randint(0, len(bench.tag_ids), (len(reads),), device=device),
        "languages": torch.tensor(sorted(row % args.adapters for row in range(rows))),
    }

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.dtype == "bfloat16"):
            loss = model(**batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = bench.clock.medians({"step": step})["step"]
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"seconds": seconds, "tokens_per_second": rows * args.tokens / seconds, "peak_memory_gib": peak}


def attempt(section: Callable[[], Any]) -> Any:
    """What ``section`` returns, or None where the device has too little memory for it."""
    import torch

    try:
        return section()
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measure(args: argparse.Namespace, shape: str, device: Any, peak: float) -> dict[str, Any]:
    bench = Bench(args, shape, device)
    parameters = sum(parameter.numel() for parameter in bench.model.parameters())
    trained = {
        name: attempt(lambda c=checkpointing: training(bench, checkpointing=c))
        for name, checkpointing in (("plain", False), ("gradient checkpointing", True))
    }
    bench.model.gradient_checkpointing_disable()
    bench.model.eval()
    bench.bank.eval()
    bench.load()
    tagged, written = attempt(lambda: tagging(bench)), attempt(lambda: writing(bench))
    peft = attempt(lambda: with_peft(bench)) or {}
    work = operations(bench.model, args.tokens) * args.rows
    return {
        "parameters": parameters,
        "tagging": {
            name: {
                "seconds": seconds,
                "tokens_per_second": args.rows * args.tokens / seconds,
                "rows_per_second": args.rows / seconds,
                "share_of_matmul_peak": work / seconds / peak,
                "ratio_to_base": seconds / (tagged or {}).get("base", seconds),
            }
            for name, seconds in {**(tagged or {}), **peft.get("tagging", {})}.items()
        }
        or None,
        "writing": {
            name: {"seconds": seconds, "new_tokens_per_second": args.rows * args.new_tokens / seconds}
            for name, seconds in {**(written or {}), **peft.get("writing", {})}.items()
        }
        or None,
        "training": trained,
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from retrieveall.evaluation import Provenance

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    peak = matmul_peak(Clock(device, args.rounds), getattr(torch, args.dtype), args.peak_size)
    shapes = {shape: attempt(lambda s=shape: measure(args, s, device, peak)) for shape in args.shape or SHAPES}
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    from importlib.metadata import version

    return {
        "format": 1,
        "device": {
            "type": device.type,
            "card": card and card.name,
            "memory_gib": card and card.total_memory / 2**30,
            "cuda": torch.version.cuda,
            "matmul_peak_tflops": peak / 1e12,
        },
        "settings": {name: value for name, value in vars(args).items() if name not in ("out", "shape")},
        "shapes": shapes,
        "peft": version("peft"),
        "provenance": asdict(Provenance.collect()),
    }


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    from retrieveall.storage import write_atomic

    result = run(args)
    text = json.dumps(result, indent=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out, (text + "\n").encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
