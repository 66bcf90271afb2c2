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

import torch

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.adapters.weights import LoraWeights
from retrieveall.data import read_corpus
from retrieveall.storage import Transaction

sys.path.insert(0, str(Path(__file__).parents[1]))
from levels import score  # type: ignore[import-not-found]

STRENGTHS = (1.0, 0.7, 0.4, 1.4)
"""Tried in this order; a later one has to be better."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=1500, help="validation sentences a language, told")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the scores, as JSON; written last")
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"{args.out} is there: the adapters of {args.model} have been scaled already")
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    scores: dict[str, dict[float, float]] = {}
    best: dict[str, float] = {}
    for language in model.languages:
        path = args.panx / language / "validation.tsv"
        sentences = list(islice(read_corpus(path, language=language), args.sentences))
        found = model.retrieve([sentence.text for sentence in sentences])
        tried = {each: round(score(model, sentences, found, {language: each}), 2) for each in STRENGTHS}
        scores[language], best[language] = tried, max(tried, key=tried.__getitem__)
        print(language, best[language], tried, flush=True)
    pool = AdapterPool(args.model)
    with Transaction(args.model) as transaction:
        for language, strength in best.items():
            weights, card = pool.load(language), pool.card(language)
            alpha = round(strength * weights.shape.alpha, 2)
            scaled = LoraWeights(replace(weights.shape, alpha=alpha), weights.layers)
            folder = transaction.replace_folder(f"adapters/{language}")
            AdapterPool.save(folder, scaled, replace(card, alpha=alpha))
    args.out.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
