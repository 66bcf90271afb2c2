"""Entities by a spaCy pipeline: ``python run_spacy.py fr_core_news_md [--only-ner]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import spacy
from peer_protocol import answer

NEEDED = ("tok2vec", "ner")
"""Of the components; the others can change entities a little: none reaches over the end of a sentence of the parser."""


def main(name: str, *options: str) -> None:
    pipeline = spacy.load(name)
    if "--only-ner" in options:
        pipeline.disable_pipes(*(each for each in pipeline.pipe_names if each not in NEEDED))

    def find(texts: list[str]) -> Iterator[list[tuple[int, int, str]]]:
        for document in pipeline.pipe(texts, batch_size=256):
            yield [(each.start_char, each.end_char, each.label_) for each in document.ents]

    answer(find, f"{name} {pipeline.meta['version']}, spaCy {spacy.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
