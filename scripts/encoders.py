"""Routing accuracy of the neighbours' vote by encoder: the table of docs/lab_book.md.

python scripts/encoders.py --panx DIR --dimension 32 64 --buckets 32768 --orders 1-3 1-4
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice, product
from pathlib import Path

from retrieveall.data import read_corpus
from retrieveall.knowledge import KnowledgeBase
from retrieveall.knowledge.encoder import NgramEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--languages", help="such as de,en; all of the folder if not given")
    parser.add_argument("--dimension", type=int, nargs="+", default=[64])
    parser.add_argument("--buckets", type=int, nargs="+", default=[1 << 15])
    parser.add_argument("--orders", nargs="+", default=["1-3"])
    parser.add_argument("--power", type=float, default=4.0)
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--sentences", type=int, default=300, help="validation sentences a language")
    args = parser.parse_args()

    def read(language: str, split: str, limit: int | None = None) -> list:
        return list(islice(read_corpus(args.panx / language / f"{split}.tsv", language=language), limit))

    languages = args.languages.split(",") if args.languages else sorted(path.name for path in args.panx.iterdir())
    pool = {language: read(language, "train") for language in languages}
    asked = {language: read(language, "validation", args.sentences) for language in languages}
    texts = [sentence.text for own in pool.values() for sentence in own]
    for dimension, buckets, orders in product(args.dimension, args.buckets, args.orders):
        low, high = map(int, orders.split("-"))
        encoder = NgramEncoder.fit(texts, dimension=dimension, buckets=buckets, orders=(low, high))
        base = KnowledgeBase.build(pool, encoder)
        right = {}
        for language, sentences in asked.items():
            wins = 0
            for found in base.retrieve([s.text for s in sentences], args.neighbours):
                votes: Counter[str] = Counter()
                for neighbour in found.neighbours:
                    votes[neighbour.language] += max(0.0, neighbour.similarity) ** args.power  # type: ignore[assignment]
                wins += votes.most_common(1)[0][0] == language
            right[language] = wins / len(sentences)
        size = (len(texts) * dimension + buckets * dimension) / 1e6
        print(
            f"d={dimension} buckets={buckets} n-grams={orders}: {100 * sum(right.values()) / len(right):.1f}% "
            f"({size:.1f} MB)  " + " ".join(f"{name} {100 * share:.0f}" for name, share in right.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
