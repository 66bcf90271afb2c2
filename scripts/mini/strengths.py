"""How strongly each adapter should act: the multiple of its alpha that is best on validation goes into its files.

    python scripts/mini/strengths.py --panx DIR --model runs/mini/model --out runs/mini/strengths.json

Weights half way between a model and its fine-tuned form are often better than both (Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.adapters.weights import LoraWeights
from retrieveall.data import read_corpus
from retrieveall.storage import Transaction, write_atomic

sys.path.insert(0, str(Path(__file__).parents[1]))
from levels import score  # type: ignore[import-not-found]

STRENGTHS = (1.0, 0.7, 0.4, 1.4)
"""Tried in this order; a later one has to be better."""


def try_strengths(model: RetrieveAll, panx: Path, sentences: int) -> dict[str, dict[str, Any]]:
    """By language the ``alpha`` of its adapter, the validation ``f1`` of every multiple of it, and the ``best`` one."""
    pool = AdapterPool(model.folder.path)
    tried = {}
    for language in model.languages:
        corpus = read_corpus(panx / language / "validation.tsv", language=language)
        some = list(islice(corpus, sentences))
        found = model.retrieve([sentence.text for sentence in some])
        f1 = {each: round(score(model, some, found, {language: each}), 2) for each in STRENGTHS}
        best = max(f1, key=f1.__getitem__)
        tried[language] = {"alpha": pool.card(language).alpha, "f1": f1, "best": best}
        print(language, best, f1, flush=True)
    return tried


def scale(folder: Path, alphas: dict[str, float]) -> None:
    """Give the adapters of a model folder these alphas, all or none."""
    pool = AdapterPool(folder)
    with Transaction(folder) as transaction:
        for language, alpha in alphas.items():
            weights, card = pool.load(language), pool.card(language)
            scaled = LoraWeights(replace(weights.shape, alpha=alpha), weights.layers)
            target = transaction.replace_folder(f"adapters/{language}")
            AdapterPool.save(target, scaled, replace(card, alpha=alpha))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=1500, help="validation sentences a language, told")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, required=True, help="what was tried, as JSON; in its place once all is done"
    )
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"{args.out} is there: the adapters of {args.model} have been scaled already")
    torch.set_num_threads(args.threads)
    part = args.out.with_name(f"{args.out.name}.part")
    if part.exists():  # stopped while it scaled: alphas are what they are to be, however often they are written
        tried = json.loads(part.read_text(encoding="utf-8"))
    else:
        tried = try_strengths(RetrieveAll.from_pretrained(args.model, device="cpu"), args.panx, args.sentences)
        write_atomic(part, (json.dumps(tried, indent=1) + "\n").encode())
    scale(args.model, {language: round(one["best"] * one["alpha"], 2) for language, one in tried.items()})
    part.replace(args.out)


if __name__ == "__main__":
    main()
