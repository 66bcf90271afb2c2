"""The corpora of the recipe: what is trained on, what may be retrieved, and what is chosen on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from recipes.base.particles import Particles
from recipes.base.settings import CorpusSettings
from recipes.raw_text import raw_text
from recipes.steps import Files, digest
from retrieveall.data import read_corpus
from retrieveall.types import Sentence

__all__ = ["Corpora"]


@dataclass(frozen=True)
class Corpora:
    """PAN-X, ``panx/LANGUAGE/SPLIT.tsv``, and running text, ``running/LANGUAGE/CORPUS/SPLIT.tsv``.

    Args:
        limit: sentences of each file that are read.
    """

    panx: Path
    running: Path
    languages: tuple[str, ...]
    limit: int | None = None

    @cached_property
    def key(self) -> str:
        panx = tuple(f"{language}/{split}.tsv" for language in self.languages for split in ("train", "validation"))
        running = tuple(
            f"{name}/{split}.tsv"
            for language in self.languages
            for name in self.names(language)
            for split in ("train", "validation")
        )
        return digest([self.limit, Files(self.panx, panx).key, Files(self.running, running).key])

    def names(self, language: str) -> list[str]:
        """The corpora of running text of a language, as ``LANGUAGE/CORPUS``."""
        found = sorted((self.running / language).glob("*/train.tsv"))
        return [f"{language}/{path.parent.name}" for path in found]

    def of(self, language: str, split: str) -> dict[str, list[Sentence]]:
        """The sentences of each corpus of a language, ids unique among them; Korean names without their particles."""
        found = {"panx": self._read(self.panx / language / f"{split}.tsv", language, "panx")}
        for name in self.names(language):
            found[name] = self._read(self.running / name / f"{split}.tsv", language, name)
        if language == "ko":
            particles = Particles(self._read(self.panx / language / "train.tsv", language, "panx"))
            found = {name: particles.strip(sentences) for name, sentences in found.items()}
        return found

    def pool(self, language: str) -> list[Sentence]:
        """What may be retrieved: all of train, running text as it is written."""
        corpora = self.of(language, "train")
        return [
            sentence if name == "panx" else raw_text(sentence).sentence
            for name, sentences in corpora.items()
            for sentence in sentences
        ]

    def train(self, language: str, settings: CorpusSettings, rng: random.Random) -> tuple[list[Sentence], ...]:
        """A sample of PAN-X and one of running text."""
        corpora = self.of(language, "train")
        panx = corpora.pop("panx")
        size = settings.panx.get(language, settings.panx["others"])
        running = [
            sentence
            for name, sentences in corpora.items()
            for sentence in _sample(sentences, settings.of.get(name, settings.running), rng)
        ]
        return _sample(panx, size, rng), running

    def validation(self, language: str, size: int) -> list[Sentence]:
        """``size`` held-out sentences of PAN-X, and as many of running text as written, in turn."""
        corpora = self.of(language, "validation")
        panx = corpora.pop("panx")[:size]
        share = size // len(corpora) if corpora else 0
        running = [raw_text(each).sentence for sentences in corpora.values() for each in sentences[:share]]
        mixed = [each for pair in zip(panx, running, strict=False) for each in pair]
        rest = [*panx[len(running) :], *running[len(panx) :]]
        return [*mixed, *rest]

    def _read(self, path: Path, language: str, name: str) -> list[Sentence]:
        sentences = islice(read_corpus(path, language=language), self.limit)
        return [replace(each, id=f"{name}:{number}") for number, each in enumerate(sentences)]


def _sample(sentences: Sequence[Sentence], size: int, rng: random.Random) -> list[Sentence]:
    return rng.sample(sentences, min(size, len(sentences)))
