"""word2vec vectors of the tokens, the starting point of the backbone's embeddings; needs gensim."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from recipes.corpora import Lines, Sentences
from recipes.mini.settings import VectorSettings
from recipes.mini.tokenizer import open_tokenizer, word_encoder
from retrieveall.errors import MissingExtraError

__all__ = ["train_vectors"]


class TokenizedText:
    """The corpora as lists of token strings, tokenised once and kept as ids; read once a pass."""

    def __init__(self, tokenizer: Path, train: Sentences, text: Lines) -> None:
        opened = open_tokenizer(tokenizer)
        encode, vocabulary = word_encoder(opened), opened.get_vocab()
        self.tokens: list[str] = sorted(vocabulary, key=vocabulary.__getitem__)
        self._rows = [
            np.fromiter(chain.from_iterable(encode(each)), dtype=np.uint16)
            for language in train.languages
            for each in chain((sentence.text for sentence in train.of(language)), text.of(language))
        ]

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._rows:
            yield [self.tokens[i] for i in row]


def train_vectors(folder: Path, settings: VectorSettings, train: Sentences, text: Lines, tokenizer: Path) -> None:
    """``vectors.safetensors``: float32 [tokens, dimension], zero for tokens that are too rare."""
    try:
        from gensim.models import Word2Vec
    except ImportError:
        raise MissingExtraError("gensim", "model", "word2vec vectors") from None
    rows = TokenizedText(tokenizer, train, text)
    # One worker: with more of them the result depends on which is first.
    model = Word2Vec(
        rows, vector_size=settings.dimension, window=5, min_count=3, sample=1e-4, negative=8, sg=0,
        epochs=settings.epochs, workers=1, seed=settings.seed,
    )  # fmt: skip
    vectors = np.zeros((len(rows.tokens), settings.dimension), dtype=np.float32)
    for i, token in enumerate(rows.tokens):
        if token in model.wv:
            vectors[i] = model.wv[token]
    save_file({"vectors": vectors}, str(folder / "vectors.safetensors"))
    print(f"{int(vectors.any(axis=1).sum()):,} of {len(vectors):,} tokens have a vector", flush=True)
