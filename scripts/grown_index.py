"""What knowledge is worth that the model was never trained on: F1 with an index that grows, the weights as they are.

    python scripts/grown_index.py --panx DIR --model mini --sentences 1000 --more 2500 5000

The index gets the last sentences of PAN-X validation beside the training data; the first ones are what is measured,
told the language, as one window each. Twins of a measured sentence are left out.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch

from levels import score
from retrieveall import RetrieveAll
from retrieveall.data import read_corpus
from retrieveall.types import Sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sentences", type=int, default=1000, help="validation sentences a language to measure")
    parser.add_argument("--more", type=int, nargs="+", default=[2500, 5000], help="sentences that the index grows by")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    measured: dict[str, list[Sentence]] = {}
    more: dict[str, list[Sentence]] = {}
    for language in model.languages:
        validation = list(read_corpus(args.panx / language / "validation.tsv", language=language))
        measured[language] = validation[: args.sentences]
        texts = {sentence.text for sentence in measured[language]}
        more[language] = [sentence for sentence in validation[args.sentences :] if sentence.text not in texts]
    print(f"| sentences added | {' | '.join(model.languages)} | mean |\n|---|{'---|' * (len(model.languages) + 1)}")
    for count in (0, *args.more):
        if count:
            for language in model.languages:
                train = list(read_corpus(args.panx / language / "train.tsv", language=language))
                model.knowledge.add_language(language, train + list(islice(reversed(more[language]), count)))
        scores = [
            score(model, sentences, model.retrieve([sentence.text for sentence in sentences]), {language: 1.0})
            for language, sentences in measured.items()
        ]
        print(
            f"| {count:,} | {' | '.join(f'{f1:.1f}' for f1 in scores)} | {sum(scores) / len(scores):.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
