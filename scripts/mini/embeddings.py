"""Step 2 of the shipped model: word2vec vectors of the tokens, the starting point of the backbone's embeddings.

    python scripts/mini/embeddings.py --panx DIR --lmtext DIR --tokenizer runs/mini/tokenizer --out FILE

Needs gensim. Reads PAN-X train and the plain text, never validation or test.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gensim.models import Word2Vec
from safetensors.numpy import save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from tokenizer import plain_text  # type: ignore[import-not-found]

from retrieveall.data import read_corpus, segment


class TokenizedText:
    """The corpora as lists of token strings, tokenised once and kept as ids."""

    def __init__(self, tokenizer: Tokenizer, panx: Path, lmtext: Path, languages: list[str]) -> None:
        self.tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
        self.rows: list[np.ndarray] = []
        cache: dict[str, list[int]] = {}
        for language in languages:
            texts = [s.text for s in read_corpus(panx / language / "train.tsv", language=language)]
            for text in [*texts, *plain_text(lmtext, language)]:
                ids: list[int] = []
                for word in segment(text):
                    if word.text not in cache:
                        cache[word.text] = tokenizer.encode(" " + word.text, add_special_tokens=False).ids
                    ids += cache[word.text]
                self.rows.append(np.array(ids, dtype=np.uint16))
            print(f"{language}: {sum(map(len, self.rows)):,} tokens so far", flush=True)

    def __iter__(self) -> Iterator[list[str]]:
        for row in self.rows:
            yield [self.tokens[i] for i in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--lmtext", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    text = TokenizedText(tokenizer, args.panx, args.lmtext, args.languages.split(","))
    started = time.monotonic()
    model = Word2Vec(
        text, vector_size=args.dimension, window=5, min_count=3, sample=1e-4, negative=8, sg=0, epochs=args.epochs,
        workers=1, seed=13,
    )  # fmt: skip
    vectors = np.zeros((len(text.tokens), args.dimension), dtype=np.float32)
    for i, token in enumerate(text.tokens):
        if token in model.wv:
            vectors[i] = model.wv[token]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": vectors}, str(args.out))
    seen = int((vectors != 0).any(axis=1).sum())
    print(f"{seen:,} of {len(vectors):,} tokens have a vector; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
