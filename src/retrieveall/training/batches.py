"""The batches of a run over training examples: packed rows as tensors, by number, the same whenever they are asked for.

What is random (order, levels of knowledge, hidden words) depends on seed, epoch, language and sentence only, so that
a language is trained on the same rows whatever other languages are trained with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieveall.config import TrainingConfig
from retrieveall.training.examples import Examples
from retrieveall.training.packing import Layout, RunPlan, plan_rows, similar_rows
from retrieveall.training.parallel import Processes

__all__ = ["ExampleBatches", "LanguageExamples"]

Batch: TypeAlias = dict[str, Tensor]
Ints: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class LanguageExamples:
    """The examples of one language by level of knowledge, the same sentences in each, and the shares of the levels."""

    language: str
    examples: Mapping[str, Examples]
    shares: Mapping[str, float]

    def __len__(self) -> int:
        return len(next(iter(self.examples.values())))

    def length(self, i: int, level: str) -> int:
        """Tokens of an example."""
        at = self.examples[level].ids_at
        return int(at[i + 1] - at[i])

    def random(self, *seeds: int) -> np.random.Generator:
        """Random numbers that depend on ``seeds`` and the language."""
        return np.random.default_rng([*seeds, zlib.crc32(self.language.encode())])


@dataclass(frozen=True)
class _Row:
    """Examples of one language: the number of each, and the level of knowledge that it is shown with."""

    language: int
    examples: tuple[tuple[int, str], ...] = ()


class ExampleBatches:
    """A run's batches for one of its processes: a sequence of dictionaries of tensors.

    ``ids``, ``segments`` and ``places`` are int64 [rows, length], see ``packing.Layout``; ``reads`` and ``labels``
    int64 [n], positions in the flattened ids and what should be predicted there; ``languages`` int64 [rows].

    Args:
        separate: a row, and where possible a batch, is of one language; for adapters.
        row_length: tokens of a packed row; rows of one example each if None.
        fixed: every batch has the same shape, for a compiler.
        mask_token: takes the place of hidden words.
    """

    def __init__(
        self,
        parts: Sequence[LanguageExamples],
        config: TrainingConfig,
        processes: Processes,
        *,
        separate: bool,
        row_length: int | None,
        pad: int,
        mask_token: int | None = None,
        fixed: bool = False,
    ) -> None:
        self._parts, self._config, self._processes = parts, config, processes
        self._separate, self._row_length, self._pad = separate, row_length, pad
        self._mask_token, self._fixed = mask_token, fixed
        batches = config.steps * config.gradient_accumulation if config.steps else None
        self.plan = RunPlan(self._epoch, epochs=config.epochs, batches=batches)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Batch:
        epoch, rows = self.plan[number]
        own = list(self._processes.deal(rows))
        size = self._config.batch_size
        if not own or self._fixed:  # rows that hold nothing
            own += [_Row(rows[0].language)] * (size - len(own) if self._fixed else 1)
        return self._tensors(own, epoch)

    def _epoch(self, epoch: int) -> list[list[_Row]]:
        """The batches of an epoch, of all processes together."""
        seed = self._config.seed
        by_language = [self._rows(number, part, epoch) for number, part in enumerate(self._parts)]
        rng = np.random.default_rng([seed, epoch])
        size = self._config.batch_size * self._processes.count
        batches: list[list[_Row]] = []
        rest: list[_Row] = []
        for rows in by_language:
            whole = len(rows) // size * size if self._separate else 0
            batches += [rows[first : first + size] for first in range(0, whole, size)]
            rest += rows[whole:]
        if not self._separate and self._row_length is not None:
            rest = [rest[i] for i in rng.permutation(len(rest))]
        batches += [rest[first : first + size] for first in range(0, len(rest), size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _rows(self, number: int, part: LanguageExamples, epoch: int) -> list[_Row]:
        rng = part.random(self._config.seed, epoch)
        names = list(part.shares)
        drawn = rng.choice(len(names), size=len(part), p=[part.shares[name] for name in names])
        every = np.stack([part.examples[name].lengths for name in names])
        lengths = every[drawn, np.arange(len(part))]
        order = rng.permutation(len(part)).tolist()
        if self._row_length is None:
            rows = similar_rows(lengths, order, self._config.batch_size * self._processes.count)
        else:
            rows = plan_rows(lengths, order, self._row_length)
            rows = [rows[i] for i in rng.permutation(len(rows))]
        return [_Row(number, tuple((i, names[drawn[i]]) for i in row)) for row in rows]

    def _tensors(self, rows: Sequence[_Row], epoch: int) -> Batch:
        found = [(self._parts[row.language], i, level) for row in rows for i, level in row.examples]
        sizes = [[self._parts[row.language].length(i, level) for i, level in row.examples] for row in rows]
        layout = Layout(sizes, self._row_length if self._fixed else None)
        ids = layout.fill((self._ids(*each, epoch) for each in found), self._pad)
        reads, labels = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for (part, i, level), offset in zip(found, layout.offsets, strict=True):
            examples = part.examples[level]
            own = slice(examples.labels_at[i], examples.labels_at[i + 1])
            reads.append(examples.positions[own].astype(np.int64) + offset)
            labels.append(examples.labels[own].astype(np.int64))
        arrays = {
            "ids": ids,
            "segments": layout.segments,
            "places": layout.places,
            "reads": np.concatenate(reads),
            "labels": np.concatenate(labels),
            "languages": np.array([row.language for row in rows], dtype=np.int64),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _ids(self, part: LanguageExamples, i: int, level: str, epoch: int) -> Ints:
        """The tokens of an example, some of its words hidden."""
        examples = part.examples[level]
        ids = examples.ids[examples.ids_at[i] : examples.ids_at[i + 1]]
        if self._mask_token is None or not self._config.word_dropout:
            return ids
        words = examples.words[examples.words_at[i] : examples.words_at[i + 1]]
        hidden = part.random(self._config.seed, epoch, i).random(len(words)) < self._config.word_dropout
        ids = ids.copy()
        for first, last in words[hidden]:
            ids[first : last + 1] = self._mask_token
        return ids
