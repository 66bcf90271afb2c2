"""Speed of a model on this machine: sentences per second, peak memory, cold start; saved as JSON.

    python scripts/benchmark.py --data DIR --model mini --threads 1

DIR holds ``LANG/test.tsv`` (or another format of ``retrieveall.data``). The sentences of all languages are
shuffled together with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

# As in retrieveall.evaluation.speed, which cannot be imported before they are set.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of LANG/SPLIT files")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--languages", help="comma-separated; all of the model if left out")
    parser.add_argument("--sentences", type=int, default=250, help="of each language")
    parser.add_argument("--model", default="mini", help="name, folder or hub id")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="cold starts, of which the median counts")
    parser.add_argument("--no-cold-start", action="store_true")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    return parser.parse_args(arguments)


def mixed_texts(args: argparse.Namespace, languages: tuple[str, ...]) -> list[str]:
    """The first sentences of every language, shuffled together."""
    from retrieveall.data import find_splits, read_corpus
    from retrieveall.errors import DataError

    texts: list[str] = []
    for language, splits in find_splits(args.data, languages).items():
        if args.split not in splits:
            raise DataError(f"{args.data / language}: expected a file of the split {args.split}, found none")
        corpus = read_corpus(splits[args.split], language=language)
        texts += [sentence.text for sentence in islice(corpus, args.sentences)]
    random.Random(args.seed).shuffle(texts)
    return texts


def run(args: argparse.Namespace) -> None:
    # Imported late: the libraries below read the thread variables when they are loaded.
    from retrieveall.evaluation import Provenance, measure
    from retrieveall.evaluation.speed import COLD_TEXT
    from retrieveall.pipeline import RetrieveAll
    from retrieveall.storage import write_atomic

    # The cold start measures the whole command, with the model named as a user would.
    command = [sys.executable, "-m", "retrieveall", "extract", COLD_TEXT]
    if args.model != "mini":
        command += ["--model", args.model]
    model = RetrieveAll.from_pretrained(args.model)
    languages = tuple(args.languages.split(",")) if args.languages else model.languages
    texts = mixed_texts(args, languages)
    speed = measure(model, texts, args.threads, command=[] if args.no_cold_start else command, repeats=args.repeats)
    result = {
        "format": 1,
        "data": f"{args.data.name} {args.split}, the first {args.sentences} sentences of each language",
        "languages": languages,
        "seed": args.seed,
        **speed,
        "provenance": asdict(Provenance.collect(model)),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    write_atomic(args.out, (text + "\n").encode())
    print(text)


def main() -> int:
    args = parse()
    for name in THREAD_VARIABLES:
        os.environ[name] = str(args.threads)
    from retrieveall.errors import RetrieveAllError

    try:
        run(args)
    except RetrieveAllError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
