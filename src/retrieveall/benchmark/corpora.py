"""The sentences of a benchmark, drawn in a fixed order, and which gold entities seqeval's strict mode would drop."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieveall.benchmark.settings import DataSettings
from retrieveall.config import LabelConfig
from retrieveall.data import find_splits, is_unspaced
from retrieveall.data.readers import open_corpus
from retrieveall.errors import DataError, InputError
from retrieveall.training.data import digest
from retrieveall.types import Sentence

__all__ = ["Corpus", "Gold", "labels_of", "read_corpora", "read_gold"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Gold:
    """A sentence; ``well_formed`` says of each entity whether its tags are, so that seqeval's strict mode counts it."""

    sentence: Sentence
    well_formed: tuple[bool, ...]


@dataclass(frozen=True)
class Corpus:
    """The sentences of one language.

    ``tokens``: the gold labels are of whole tokens between white space. ``more_knowledge``: sentences that may be
    retrieved, of which the first are the training sentences.
    """

    language: str
    train: Sequence[Sentence]
    validation: Sequence[Sentence]
    test: Sequence[Gold]
    tokens: bool = False
    more_knowledge: Sequence[Sentence] = ()

    @property
    def knowledge(self) -> list[Sentence]:
        """What may be retrieved: the training sentences, and those that are not trained on."""
        return [*self.train, *self.more_knowledge[len(self.train) :]]

    @property
    def test_sentences(self) -> list[Sentence]:
        return [each.sentence for each in self.test]

    def first(self, size: int | None) -> Corpus:
        """With the first ``size`` training sentences."""
        train = self.train if size is None else self.train[:size]
        return replace(self, train=train)

    def digests(self) -> dict[str, str]:
        more = {"knowledge": digest(self.knowledge)} if self.more_knowledge else {}
        return {
            "train": digest(self.train),
            "validation": digest(self.validation),
            "test": digest(self.test_sentences),
            **more,
        }


def read_corpora(data: DataSettings, sizes: Sequence[int] = (), languages: Sequence[str] | None = None) -> list[Corpus]:
    """The corpora of the languages, with as many training sentences as any setting asks for.

    Raises:
        DataError: no such folder, a language without training or test sentences.
    """
    return [_read(data, language, sizes) for language in languages or data.languages]


def labels_of(data: DataSettings, corpora: Sequence[Corpus]) -> tuple[LabelConfig, ...]:
    """The labels of the settings, or those of the training sentences.

    Raises:
        InputError: no sentence has an entity.
    """
    if data.labels:
        return data.label_configs()
    found = sorted({entity.label for corpus in corpora for each in corpus.train for entity in each.entities})
    if not found:
        raise InputError("expected training sentences with entities, got none; check data.path")
    return tuple(LabelConfig(name=name) for name in found)


def _read(data: DataSettings, language: str, sizes: Sequence[int]) -> Corpus:
    sources = _renamed(_sources(data.path, language), data.test_split)
    missing = [split for split in ("train", "test") if split not in sources]
    if missing:
        raise DataError(f"{data.path}: expected a {missing[0]} split of {language!r}, found none; check data.path")
    largest = data.size(language)
    largest = None if largest is None else max(largest, *sizes, 0)
    known = None if data.knowledge == "all" else data.knowledge
    every = None if largest is None or data.knowledge == "all" else max(largest, known or 0)
    drawn = [each.sentence for each in _drawn(sources["train"], language, data.seed, every)]
    train = drawn if largest is None else drawn[:largest]
    validation = _drawn(sources["validation"], language, data.seed, data.validation) if "validation" in sources else []
    test = _drawn(sources["test"], language, data.seed, data.test)
    tokens = _is_tagged(sources["test"]) and not is_unspaced(language)
    more = () if data.knowledge is None else drawn[:known]
    return Corpus(language, train, [each.sentence for each in validation], test, tokens, more)


def _sources(path: str, language: str) -> dict[str, str | Path]:
    if path.startswith("hf://"):
        return {split: f"{path.rstrip('/')}/{language}?split={split}" for split in SPLITS}
    return dict(find_splits(path, [language])[language])


def _renamed(sources: dict[str, str | Path], test: str) -> dict[str, str | Path]:
    """The sources with the split ``test`` in the place of the test split."""
    if test == "test":
        return sources
    return {"train": sources["train"], "test": sources[test]} if {"train", test} <= sources.keys() else {}


def _is_tagged(source: str | Path) -> bool:
    return not {".jsonl", ".ndjson"} & set(Path(str(source)).suffixes)


def _drawn(source: str | Path, language: str, seed: int, size: int | None) -> list[Gold]:
    if size == 0:
        return []
    found = list(read_gold(source, language))
    random.Random(f"{seed} {language} {Path(str(source)).name}").shuffle(found)
    return found if size is None else found[:size]


def read_gold(source: str | Path, language: str) -> Iterator[Gold]:
    """The sentences of a file or hub data set with what strict counting needs to know of their tags.

    Only a file of tags can have ill-formed ones; entities of other sources are all well formed.
    """
    for item in open_corpus(source, language=language, check_tags=True).items:
        entities = range(len(item.sentence.entities))
        yield Gold(item.sentence, tuple(number not in item.broken for number in entities))
