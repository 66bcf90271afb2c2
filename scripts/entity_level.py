"""Precision of the entity level: each kind of match in validation sentences compared with gold entities.

    python scripts/entity_level.py --panx DIR --model mini --sentences 1000 [--no-partial]

A match may be a gold entity, lie inside or overlap one, or touch none; in brackets, the share of those with the correct
label.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice
from pathlib import Path

from retrieveall.data import read_corpus
from retrieveall.model_folder import ModelFolder
from retrieveall.prompts.builder import DOUBTS
from retrieveall.types import KnownEntity

KINDS = ("exact", "exact, doubtful", "mostly inside others", "partial", "partial, doubtful", "near")


def kind(known: KnownEntity) -> str:
    if known.similarity < 1:
        return "near"
    if known.mostly_inside and not known.partial:
        return "mostly inside others"
    return ("partial" if known.partial else "exact") + (", doubtful" if known.mention_share < DOUBTS[0][0] else "")


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sentences", type=int, default=1000, help="validation sentences a language")
    parser.add_argument("--no-partial", dest="partial", action="store_false")
    args = parser.parse_args()
    knowledge = ModelFolder.open(args.model).knowledge()
    print(
        "| | match | a sentence | is a gold entity | inside or overlapping | touches none |\n|---|---|---|---|---|---|"
    )
    for language in knowledge.languages:
        path = args.panx / language / "validation.tsv"
        sentences = list(islice(read_corpus(path, language=language), args.sentences))
        seen: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
        for sentence in sentences:
            for known in knowledge.known_entities(sentence.text, partial_matches=args.partial):
                touched = [gold for gold in sentence.entities if known.start < gold.end and gold.start < known.end]
                where = "none"
                if touched:
                    gold = touched[0]
                    where = "whole" if (known.start, known.end) == (gold.start, gold.end) else "inside"
                    seen[kind(known)][f"{where} right"] += gold.label == known.label
                seen[kind(known)][where] += 1
        for name, counts in seen.items():
            total = counts["whole"] + counts["inside"] + counts["none"]
            if not total:
                continue
            shares = [
                f"{percent(counts[where], total)}% ({percent(counts[f'{where} right'], counts[where])})"
                for where in ("whole", "inside")
            ]
            print(
                f"| {language} | {name} | {total / len(sentences):.2f} | {' | '.join(shares)} "
                f"| {percent(counts['none'], total)}% |"
            )


if __name__ == "__main__":
    main()
