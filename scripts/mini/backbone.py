"""Steps 3 and 4 of the shipped model: the backbone, from word2vec vectors by masked words, then by joint tagging.

    python scripts/mini/backbone.py words --data runs/mini/text.safetensors ... --out runs/mini/words
    python scripts/mini/backbone.py tags --start runs/mini/words --data runs/mini/prepared ... --out runs/mini/tags

Checkpoints every few minutes (safetensors and JSON); started again with the same arguments, it goes on from the last.
With ``--workers N`` N processes, one a core, train side by side and average their weights every minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from packing import load_flat, tagging_sources  # type: ignore[import-not-found]
from running import Run, add_arguments, add_dropout, advance, epochs, finish, learn_tags  # type: ignore[import-not-found]


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
    add_dropout(model, args.dropout)
    return model


def parameter_groups(model: LlamaForCausalLM, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Embeddings learn at their own pace and do not decay: most of them are seen seldom."""
    embedding = model.get_input_embeddings().weight
    body = [p for p in model.parameters() if p is not embedding]
    return [
        {"params": [embedding], "lr": args.lr * args.embedding_lr, "weight_decay": 0.0},
        {"params": body, "lr": args.lr, "weight_decay": args.decay},
    ]


def train_words(run: Run, args: argparse.Namespace, mask: int, specials: int) -> None:
    """Masked words: 20% of the tokens are hidden and predicted among the batch's targets and sampled tokens."""
    data = load_flat(args.data)
    vocabulary = run.model.config.vocab_size
    frequency = np.bincount(data.ids, minlength=vocabulary).astype(float) ** 0.75
    frequency[:specials] = 0
    frequency /= frequency.sum()
    cumulative = np.cumsum(frequency)
    run.workers.start(run.step)
    started, losses = time.monotonic(), []
    for batch in epochs([data], run, weights=[1.0]):
        rng = np.random.default_rng([args.seed, args.worker, run.step])
        torch.manual_seed((args.seed + args.worker) * 1_000_003 + run.step)
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
    folders = [(args.data, 1 - args.swap), (args.swapped, args.swap)]
    sources, weights = tagging_sources(folders, args.languages.split(","), args.knowledge)
    learn_tags(run, sources, weights, tag_ids, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["words", "tags"])
    parser.add_argument("--data", type=Path, required=True, help="a file of text, or a folder of prepare.py")
    parser.add_argument("--swapped", type=Path, help="a folder of prepare.py with mentions swapped")
    parser.add_argument("--swap", type=float, default=0.0, help="share of sentences taken from --swapped")
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, help="word2vec vectors to start from")
    parser.add_argument("--start", type=Path, help="folder of a model to start from")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float, help="the schedule runs by the clock")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meet-seconds", type=float, default=60)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--inner", type=int, default=704)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--embedding-scale", type=float, default=0.25)
    parser.add_argument("--embedding-lr", type=float, default=0.5)
    parser.add_argument("--knowledge", type=float, nargs=3, default=[0.2, 0.4, 0.4])
    add_arguments(parser, lr=1e-3, decay=0.05, dropout=0.1, word_dropout=0.1, rows=24, row_length=160,
                  checkpoint_minutes=5)  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    others = []
    if args.workers > 1 and args.worker == 0:
        (args.out / "workers").unlink(missing_ok=True)  # where the workers of an earlier start met
        others = [subprocess.Popen([sys.executable, *sys.argv, "--worker", str(i)]) for i in range(1, args.workers)]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    mask = tokenizer.token_to_id("<|mask|>")
    tag_ids = [tokenizer.token_to_id(f"<|tag{i}|>") for i in range(13)]
    model = build_model(args, tokenizer.get_vocab_size())
    run = Run(args, model, parameter_groups(model, args))
    if args.task == "words":
        train_words(run, args, mask, specials=135)
    else:
        train_tags(run, args, mask, tag_ids)
    for other in others:
        other.wait()


if __name__ == "__main__":
    main()
