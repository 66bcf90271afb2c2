"""Share of entity-free sentences in which a model finds an entity, by language.

    python scripts/prose.py --prose runs/mini/prose --model mini

The folder holds LANG.jsonl, as `scripts/mini/negatives.py --held-out-dir` writes it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from retrieveall import RetrieveAll
from retrieveall.data import read_corpus
from retrieveall.evaluation import spurious_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    rates = spurious_rate(
        model, {path.stem: list(read_corpus(path, language=path.stem)) for path in sorted(args.prose.glob("*.jsonl"))}
    )
    found = {language: rate for language, rate in rates.items() if rate is not None}
    for language, rate in found.items():
        print(f"{language} {100 * rate:.1f}%")
    print(f"mean {100 * sum(found.values()) / len(found):.1f}%")


if __name__ == "__main__":
    main()
