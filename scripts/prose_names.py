"""Share of well-known names in ordinary prose that a model finds, by language, which silver data cannot measure.

    python scripts/prose_names.py --lmtext DIR --model mini

DIR holds LANG.txt.xz. A well-known name occurs at least five times in the language's training data, with the same label
in at least nine of ten cases. Names are searched in every second short line of plain text; the training data of the
shipped model has sentences from the others (``recipes/mini/positives.py``). Some misses are correct (a name may be part
of a longer one), so use the figures to compare models and languages, not as recall.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from retrieveall import RetrieveAll
from retrieveall.types import KnownEntity

LONGEST = 100
"""Maximum characters of a line; longer ones are skipped."""


def well_known(entity: KnownEntity, language: str) -> bool:
    counts = entity.counts.get(language, {})
    total = sum(counts.values())
    exact = entity.similarity == 1.0 and entity.end - entity.start > 1
    return exact and total >= 5 and counts.get(entity.label, 0) >= 0.9 * total


def lines_with_names(model: RetrieveAll, path: Path, language: str) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Every second short line of the file, with the names in it."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        short = (line.strip() for line in islice(lines, 0, None, 2) if len(line) <= LONGEST)
        while batch := list(islice((line for line in short if line), 256)):
            for text in batch:
                # Whole mentions only, so that all models get the same lines and names.
                found = model.knowledge.known_entities(text, partial_matches=False)
                names = [(e.start, e.end, e.label) for e in found if well_known(e, language)]
                if names:
                    yield text, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lmtext", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sentences", type=int, default=300, help="lines a language")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    shares = []
    for language in model.languages:
        rows = list(islice(lines_with_names(model, args.lmtext / f"{language}.txt.xz", language), args.sentences))
        predictions = model.predict([text for text, _ in rows])
        found = total = 0
        for (_, names), prediction in zip(rows, predictions, strict=True):
            spans = {(e.start, e.end, e.label) for e in prediction.entities}
            found += sum(name in spans for name in names)
            total += len(names)
        shares.append(found / max(1, total))
        print(f"{language} {100 * shares[-1]:.1f}% of {total}", flush=True)
    print(f"mean {100 * sum(shares) / len(shares):.1f}%")


if __name__ == "__main__":
    main()
