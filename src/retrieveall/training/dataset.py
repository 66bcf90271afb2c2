"""Sentences of many languages as batches: knowledge is retrieved once, prompts are built anew every epoch.

What is random (order, which knowledge is left away, which words are hidden) depends on seed, epoch and sentence only,
never on a generator's history, so that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from retrieveall.config import TrainingConfig
from retrieveall.training.examples import Example, ExampleBuilder
from retrieveall.types import Knowledge, Sentence

__all__ = ["Collator", "LengthSampler", "TaggingDataset"]

Batch = dict[str, torch.Tensor]


class TaggingDataset(Dataset[Example]):
    """Gold sentences with what was retrieved for them."""

    def __init__(
        self,
        builder: ExampleBuilder,
        sentences: Sequence[Sentence],
        knowledge: Sequence[Knowledge],
        config: TrainingConfig,
        hidden_token: int | None = None,
    ) -> None:
        self._builder = builder
        self._sentences = sentences
        self._knowledge = knowledge
        self._config = config
        self._hidden = hidden_token
        self.epoch = 0
        self.lengths = [len(sentence.text) + sum(e.end - e.start for e in found.entities) + sum(
            len(n.sentence.text) for n in found.neighbours[:2]
        ) for sentence, found in zip(sentences, knowledge, strict=True)]  # fmt: skip
        """Characters that will be in the prompt, more or less; for sorting only."""

    def __len__(self) -> int:
        return len(self._sentences)

    def __getitem__(self, index: int) -> Example:
        if index < 0:  # ``~index``: that sentence with nothing to learn, see ``parallel.Share``
            return replace(self[~index], reads=[], starts=[], ends=[], tags=[])
        rng = np.random.default_rng([self._config.seed, self.epoch, index])
        found = self._knowledge[index]
        drop = self._config.knowledge_dropout
        if rng.random() < drop:
            found = replace(found, entities=())
        if rng.random() < drop:
            found = replace(found, neighbours=())
        example = self._builder.encode(self._sentences[index], found)
        if self._hidden is not None and self._config.word_dropout:
            _hide_words(example, self._config.word_dropout, self._hidden, rng)
        return example


def _hide_words(example: Example, share: float, token: int, rng: np.random.Generator) -> None:
    for first, last in zip(example.starts, example.ends, strict=True):
        if rng.random() < share:
            example.ids[first : last + 1] = [token] * (last + 1 - first)


class LengthSampler(Sampler[int]):
    """A random order in which neighbours are of similar length, so that batches have little padding."""

    def __init__(self, dataset: TaggingDataset, batch_size: int, seed: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[int]:
        self._dataset.epoch = self._epoch
        rng = np.random.default_rng([self._seed, self._epoch])
        order = rng.permutation(len(self._dataset))
        chunk = self._batch_size * 50
        batches: list[list[int]] = []
        for first in range(0, len(order), chunk):
            rows = sorted(order[first : first + chunk].tolist(), key=lambda i: self._dataset.lengths[i])
            batches += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        for i in rng.permutation(len(batches)):
            yield from batches[i]


class Collator:
    """Examples to tensors: ids int64 [batch, longest], lengths [batch], reads and tags [n], languages [batch].

    ``reads`` are positions in the flattened ids.
    """

    def __init__(self, pad: int, languages: Sequence[str]) -> None:
        self._pad = pad
        self._column: Mapping[str, int] = {language: i for i, language in enumerate(languages)}

    def arrange(self, examples: Sequence[Example]) -> list[Example]:
        """The order of the rows: those of one language together run through its adapter in one product."""
        return sorted(examples, key=lambda example: self._column[example.language])

    def __call__(self, examples: Sequence[Example]) -> Batch:
        examples = self.arrange(examples)
        longest = math.ceil(max(len(example.ids) for example in examples) / 8) * 8
        ids = torch.full((len(examples), longest), self._pad, dtype=torch.long)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
        return {
            "ids": ids,
            "lengths": torch.tensor([len(example.ids) for example in examples]),
            "reads": torch.tensor([b * longest + r for b, e in enumerate(examples) for r in e.reads], dtype=torch.long),
            "tags": torch.tensor([tag for example in examples for tag in example.tags], dtype=torch.long),
            "languages": torch.tensor([self._column[example.language] for example in examples]),
        }
