"""The corpora that models are built from: sentences of PAN-X and lines of plain text, as many as are wanted."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from recipes.steps import Files, digest
from retrieveall.data import read_corpus
from retrieveall.types import Sentence

__all__ = ["Lines", "Sentences"]


@dataclass(frozen=True)
class Sentences:
    """One split of PAN-X, ``folder/LANGUAGE/SPLIT.tsv``, the first ``limit`` sentences of each language."""

    folder: Path
    split: str
    languages: tuple[str, ...]
    limit: int | None = None

    @cached_property
    def key(self) -> str:
        names = tuple(f"{language}/{self.split}.tsv" for language in self.languages)
        return digest([*names, self.limit, Files(self.folder, names).key])

    def of(self, language: str) -> list[Sentence]:
        """The sentences of one language."""
        sentences = read_corpus(self.folder / language / f"{self.split}.tsv", language=language)
        return list(islice(sentences, self.limit))


@dataclass(frozen=True)
class Lines:
    """Plain text, ``folder/LANGUAGE.txt.xz``, the first ``limit`` lines of each language."""

    folder: Path
    languages: tuple[str, ...]
    limit: int | None = None

    @cached_property
    def key(self) -> str:
        names = tuple(f"{language}.txt.xz" for language in self.languages)
        return digest([*names, self.limit, Files(self.folder, names).key])

    def of(self, language: str) -> Iterator[str]:
        """The lines of one language."""
        with lzma.open(self.folder / f"{language}.txt.xz", "rt", encoding="utf-8") as lines:
            yield from (line.strip() for line in islice(lines, self.limit))
