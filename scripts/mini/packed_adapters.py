"""Adapters over the frozen backbone of a model folder, in packed rows and compiled: several times as fast on a CPU as
`retrieveall train`, with the same prompts, and over data whose mentions are swapped now and then.

    python scripts/mini/packed_adapters.py --model runs/mini/model --languages de --data runs/mini/prepared \
        --swapped runs/mini/swapped --swap 0.3 --passes 4 --out runs/mini/adapter-de

One adapter is trained on all of ``--languages`` together and saved for each of them: name one language for an adapter
of its own, several for one that they share. Checkpoints are in OUT; started again with the same arguments, it goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.adapters import AdapterPool, backbone_fingerprint
from retrieveall.adapters.card import AdapterCard
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights
from retrieveall.engines.encoding import TokenCodec
from retrieveall.engines.transformers import load_backbone, tag_token_ids
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction

sys.path.insert(0, str(Path(__file__).parent))
from packing import tagging_sources  # type: ignore[import-not-found]
from running import DroppedLinear, Run, add_arguments, add_dropout, learn_tags  # type: ignore[import-not-found]
from steps import RANK, RATE  # type: ignore[import-not-found]


class AdaptedLinear(DroppedLinear):
    """A frozen linear layer plus ``scaling * B A x``, with ``A`` [rank, in] and ``B`` [out, rank] as in PEFT."""

    scaling = 0.0
    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.dropout(F.linear(x, self.weight) + self.scaling * added, self.rate, self.training)


def adapt(model: nn.Module, rank: int, alpha: float, seed: int) -> dict[str, AdaptedLinear]:
    """Freeze the model and give every linear layer of its blocks an adapter that begins at nothing, by module name."""
    model.requires_grad_(False)
    torch.manual_seed(seed)
    adapted: dict[str, AdaptedLinear] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in name:
            module.__class__ = AdaptedLinear
            assert isinstance(module, AdaptedLinear)
            module.scaling = alpha / rank
            module.lora_a = nn.Parameter(torch.empty(rank, module.in_features))
            nn.init.kaiming_uniform_(module.lora_a, a=math.sqrt(5))
            module.lora_b = nn.Parameter(torch.zeros(module.out_features, rank))
            adapted[name] = module
    return adapted


class AdapterRun(Run):  # type: ignore[misc]
    """A run whose result is an adapter in a model folder."""

    def __init__(self, args: argparse.Namespace, folder: ModelFolder, data: dict[str, Any]) -> None:
        self._folder, self._data = folder, data
        model, tokenizer = load_backbone(folder.config, folder.path)
        model.set_attn_implementation("eager")
        self._fingerprint = backbone_fingerprint(model)
        self.tag_ids = tag_token_ids(folder.config, TokenCodec(tokenizer, folder.config.decoder.spacing))
        self.mask_id = tokenizer.backend_tokenizer.token_to_id("<|mask|>")
        self._adapted = adapt(model, args.rank, args.alpha, args.seed)
        add_dropout(model, args.dropout)
        parameters = [p for p in model.parameters() if p.requires_grad]
        super().__init__(args, model, [{"params": parameters, "lr": args.lr, "weight_decay": args.decay}])

    def export(self, folder: Path, *, averaged: bool) -> None:
        """Into the model folder, for every language of the run; ``folder`` keeps the checkpoint only."""
        values = iter(self.average if averaged else self.parameters)
        layers = {}
        for name, module in self._adapted.items():
            a, b = (next(values).detach().half() for _ in "AB")
            layers[name] = LoraLayer(a, b, module.scaling)
        rank, alpha = self.args.rank, self.args.alpha
        targets = tuple(sorted({name.rpartition(".")[2] for name in layers}))
        weights = LoraWeights(LoraShape(rank, alpha, False, targets), layers)
        with Transaction(self._folder.path) as transaction:
            for language in self.args.languages.split(","):
                card = AdapterCard(
                    language=language,
                    labels=self._folder.config.label_names,
                    template=self._folder.config.prompt.template,
                    backbone_fingerprint=self._fingerprint,
                    rank=rank,
                    alpha=alpha,
                    created=datetime.now(UTC).strftime("%Y-%m-%d"),
                    data=self._data,
                )
                AdapterPool.save(transaction.replace_folder(f"adapters/{language}"), weights, card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of `adapters.py create`")
    parser.add_argument("--languages", required=True, help="one, or several that share the adapter")
    parser.add_argument("--data", type=Path, required=True, help="a folder of prepare.py")
    parser.add_argument("--swapped", type=Path, help="a folder of prepare.py with mentions swapped")
    parser.add_argument("--swap", type=float, default=0.0, help="share of sentences taken from --swapped")
    parser.add_argument("--knowledge", type=float, nargs=3, default=[0.1, 0.9, 0.0],
                        help="shares of sentences with none, the entity level, and both levels")  # fmt: skip
    parser.add_argument("--passes", type=float, default=4.0, help="over the data")
    parser.add_argument("--least-steps", type=int, default=0, help="for few sentences, whose passes are short")
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--alpha", type=float, help="twice the rank if not given")
    add_arguments(parser, lr=RATE, decay=0.0, dropout=0.15, word_dropout=0.08, rows=30, row_length=128,
                  checkpoint_minutes=4)  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.workers, args.worker, args.minutes, args.meet_seconds = 1, 0, None, 60.0
    args.alpha = args.alpha or 2.0 * args.rank
    args.out.mkdir(parents=True, exist_ok=True)
    languages = args.languages.split(",")
    folders = [(args.data, 1 - args.swap), (args.swapped, args.swap)]
    sources, weights = tagging_sources(folders, languages, args.knowledge)
    tokens = sum(w * len(source.ids) for w, source in zip(weights, sources, strict=True)) / sum(weights)
    args.steps = max(1, args.least_steps, round(args.passes * tokens / (args.rows * args.row_length)))
    digest = hashlib.sha256(sources[0].ids.tobytes()).hexdigest()
    data = {"sentences": len(sources[0]), "languages": languages, "sha256": digest}
    print(f"{len(sources[0]):,} sentences of {args.languages}, {args.steps:,} steps", flush=True)
    run = AdapterRun(args, ModelFolder.open(args.model), data)
    learn_tags(run, sources, weights, run.tag_ids, run.mask_id)


if __name__ == "__main__":
    main()
