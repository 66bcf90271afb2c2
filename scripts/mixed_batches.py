"""The cost of mixed batches, with an adapter per row, against one merged adapter, PEFT and no adapter.

    python scripts/mixed_batches.py --adapters 40 --rows 40 --threads 1

A random Qwen2 of width 512. The variants take turns within one process, so that other load affects all of them;
medians and their ratios are printed as JSON. With one thread, processor time is measured, which other programs do not
affect. glibc is set to keep freed memory: otherwise it returns large tensors to the system and allocates them again,
which costs the next variant up to a tenth; ``--give-back-memory`` disables this.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--adapters", type=int, default=40, help="in the bank")
    parser.add_argument("--rows", type=int, default=40, help="of a batch; each takes the next adapter")
    parser.add_argument("--tokens", type=int, default=64, help="of a row")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--order", choices=("sorted", "shuffled"), default="sorted", help="rows of equal adapters")
    parser.add_argument("--give-back-memory", action="store_true", help="the allocator as it is")
    parser.add_argument("--no-peft", action="store_true", help="leave PEFT's adapter_names out")
    return parser.parse_args(arguments)


def keep_memory() -> bool:
    """Let glibc keep freed memory; False with another C library."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(mmap_threshold, 32 << 20))


def make_backbone(args: argparse.Namespace) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=8192,
        hidden_size=args.width,
        intermediate_size=args.width * 11 // 4,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64 or 1,
        num_key_value_heads=max(1, args.width // 256),
    )
    return Qwen2Model(config).eval()


def make_weights(model: Any, rank: int, seed: int) -> Any:
    """A random adapter on every linear layer in ``TARGETS``."""
    import torch

    from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights

    generator = torch.Generator().manual_seed(seed)
    shape = LoraShape(rank, 2.0 * rank, target_modules=TARGETS)
    layers = {}
    for name, module in model.named_modules():
        if name.endswith(TARGETS):
            a = torch.randn(rank, module.in_features, generator=generator) * 0.02
            b = torch.randn(module.out_features, rank, generator=generator) * 0.02
            layers[name] = LoraLayer(a, b, shape.scaling_of(name))
    return LoraWeights(shape, layers)


def merged_model(args: argparse.Namespace) -> Any:
    """The backbone with the first adapter added into its weights."""
    model = make_backbone(args)
    for name, layer in make_weights(model, args.rank, 0).layers.items():
        model.get_submodule(name).weight.data += layer.scaling * layer.b @ layer.a
    return model


def peft_model(args: argparse.Namespace) -> Any:
    import peft

    model = make_backbone(args)
    lora = peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=list(TARGETS))
    wrapped = peft.get_peft_model(model, lora, adapter_name="l0")
    for number in range(1, args.adapters):
        wrapped.add_adapter(f"l{number}", lora)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    return wrapped.eval()


def contestants(args: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    import torch

    from retrieveall.adapters.bank import AdapterBank

    ids = torch.randint(0, 8192, (args.rows, args.tokens), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    numbers = sorted(row % args.adapters for row in range(args.rows))
    if args.order == "shuffled":
        random.Random(3).shuffle(numbers)
    banked = make_backbone(args)
    bank = AdapterBank.attach(banked, max_loaded=args.adapters)
    for number in range(args.adapters):
        bank.add(f"l{number}", make_weights(banked, args.rank, number))
    rows = [{f"l{number}": 1.0} for number in numbers]
    mixtures = [{f"l{n}": 0.5, f"l{(n + 1) % args.adapters}": 0.3, f"l{(n + 2) % args.adapters}": 0.2} for n in numbers]
    base, merged = make_backbone(args), merged_model(args)

    def with_bank(plan: list[dict[str, float]]) -> Any:
        with bank.use(plan):
            return banked(input_ids=ids, attention_mask=mask, use_cache=False)

    found: dict[str, Callable[[], Any]] = {
        "base": lambda: base(input_ids=ids, attention_mask=mask, use_cache=False),
        "merged": lambda: merged(input_ids=ids, attention_mask=mask, use_cache=False),
        "bank, one adapter": lambda: with_bank([rows[0]] * args.rows),
        "bank, mixed": lambda: with_bank(rows),
        "bank, mixtures of three": lambda: with_bank(mixtures),
    }
    if not args.no_peft:
        wrapped = peft_model(args)
        names = [f"l{number}" for number in numbers]
        found["peft adapter_names"] = lambda: wrapped(
            input_ids=ids, attention_mask=mask, use_cache=False, adapter_names=names
        )
    return found


def measure(runs: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each variant in each round; the order within a round is shuffled."""
    import torch

    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first round is warm-up
            for name in order.sample(list(runs), len(runs)):
                start = clock()
                runs[name]()
                if number:
                    seconds[name].append(clock() - start)
    return seconds


def run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    seconds = measure(contestants(args), args.rounds, clock)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    # Ratios within a round, so that a slow minute of the machine affects both.
    ratios = {
        name: statistics.median(mine / theirs for mine, theirs in zip(times, seconds["merged"], strict=True))
        for name, times in seconds.items()
    }
    return {
        "settings": {name: value for name, value in vars(args).items() if name != "rounds"},
        "rounds": args.rounds,
        "median_seconds": {name: round(value, 4) for name, value in medians.items()},
        "ratio_to_merged": {name: round(value, 3) for name, value in ratios.items()},
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }


def main() -> int:
    args = parse()
    for name in THREAD_VARIABLES:
        os.environ[name] = str(args.threads)
    kept = not args.give_back_memory and keep_memory()
    print(json.dumps(run(args) | {"memory_kept": kept}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
