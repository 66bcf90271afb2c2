"""The masked-words data of the shipped model: PAN-X train and a share of the plain text as token ids.

python scripts/mini/text.py --panx DIR --lmtext DIR --tokenizer runs/mini/tokenizer --out runs/mini/text.safetensors
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from tokenizer import plain_text  # type: ignore[import-not-found]

from retrieveall.data import read_corpus, segment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--lmtext", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--share", type=float, default=0.2, help="share of the plain text's lines")
    parser.add_argument("--longest", type=int, default=150)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    rng = random.Random(17)
    cache: dict[str, list[int]] = {}
    sequences: list[list[int]] = []
    for language in args.languages.split(","):
        texts = [s.text for s in read_corpus(args.panx / language / "train.tsv", language=language)]
        texts += [line for line in plain_text(args.lmtext, language, 1000) if rng.random() < args.share]
        for text in texts:
            ids: list[int] = []
            for word in segment(text):
                if word.text not in cache:
                    cache[word.text] = tokenizer.encode(" " + word.text, add_special_tokens=False).ids
                if len(ids) + len(cache[word.text]) > args.longest:
                    sequences.append(ids)
                    ids = []
                ids = ids + cache[word.text][: args.longest]
            sequences.append(ids)
    sequences = [ids for ids in sequences if len(ids) > 2]
    zeros = np.zeros(len(sequences) + 1, dtype=np.int64)
    empty = np.zeros(0, dtype=np.int32)
    flat = np.concatenate([np.array(ids, dtype=np.int32) for ids in sequences])
    offsets = np.cumsum([0, *map(len, sequences)])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "ids": flat,
            "offsets": offsets,
            "reads": empty,
            "starts": empty,
            "tags": empty,
            "read_offsets": zeros,
        },
        str(args.out),
    )
    print(f"{len(sequences):,} sequences, {len(flat):,} tokens")


if __name__ == "__main__":
    main()
