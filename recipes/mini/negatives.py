"""Sentences of plain text without a name: PAN-X has none, so a model trained on it alone over-predicts.

Chinese and Korean text is nearly all encyclopedia: several sentences of a line are taken there, and still fewer come
out than are asked for. Up to about 3% of the held-out sentences may hold a name that a tagger is right to find.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from recipes.corpora import Lines, Sentences
from recipes.mini.plain_text import CASED, WORD, count, fits_length, mentions_of, read_lines, sample, sentences_of, vary
from recipes.mini.settings import NegativesSettings
from recipes.mini.signs import Rule, has_no_name
from recipes.steps import Files
from retrieveall.data import write_jsonl
from retrieveall.types import Sentence

__all__ = ["find_negatives"]


def find_negatives(folder: Path, settings: NegativesSettings, train: Sentences, text: Lines, words: Files) -> None:
    """``LANGUAGE.jsonl`` for training and ``held-out/LANGUAGE.jsonl`` to measure on, no line of text in both."""
    (folder / "held-out").mkdir(exist_ok=True)
    for language in train.languages:
        rng = random.Random(f"{settings.seed} {language}")
        lines = read_lines(text, language)
        counts = count(sample(lines, settings.statistics_lines, rng), language)
        accept = has_no_name(language, counts, mentions_of(train.of(language)))
        sizes = {"held-out": settings.held_out, "train": settings.sentences}
        found = select(list(dict.fromkeys(lines)), accept, sizes, settings.per_line.get(language, 1), rng)
        if language in CASED:
            found["train"] = [vary(text, rng, '.!?…"”»“’ ', cased=True) for text in found["train"]]
        for name, path in (("train", folder), ("held-out", folder / "held-out")):
            write_jsonl((Sentence(text, (), language) for text in found[name]), path / f"{language}.jsonl")
        print(f"{language}: {len(found['train']):,} + {len(found['held-out'])} held out", flush=True)


def select(
    lines: list[str], accept: Rule, sizes: Mapping[str, int], most: int, rng: random.Random
) -> dict[str, list[str]]:
    """Sets of different sentences out of lines in random order, ``most`` of a line, no line in two sets."""
    seen: set[str] = set()
    sets: dict[str, list[str]] = {name: [] for name in sizes}
    order = iter(rng.sample(lines, len(lines)))
    for name, size in sizes.items():
        found = sets[name]
        while len(found) < size and (line := next(order, None)) is not None:
            candidates = list(sentences_of(line))
            rng.shuffle(candidates)
            taken = 0
            for text in candidates:
                key = " ".join(WORD.findall(text.casefold()))
                if taken < most and len(found) < size and key not in seen and accept(text) and fits_length(text):
                    seen.add(key)
                    found.append(text)
                    taken += 1
    return sets
