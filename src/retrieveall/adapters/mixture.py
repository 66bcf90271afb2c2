"""Which adapters each row of a batch uses, with which weights, and how their matrices are laid out for it.

Knows languages, weights and ranks; knows neither the model nor the adapters' tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from retrieveall.errors import InputError

__all__ = ["BatchMixture", "Layout", "Mixture", "Run"]

Mixture = tuple[tuple[str, float], ...]
"""Languages with their weights, sorted, none of them 0; empty for the bare backbone."""

# With more runs of equal rows, one gathered batch product is faster than a product for each run: on a CPU the two
# meet at one row a run, on an accelerator every run costs two kernel launches.
_MAX_RUNS = 16


@dataclass(frozen=True)
class Run:
    """Adjacent rows, or tokens, ``start`` to ``stop`` with the same mixture."""

    start: int
    stop: int
    mixture: Mixture


@dataclass(frozen=True)
class Layout:
    """How the A (or B) matrices of a batch's adapters are concatenated: for each row, ``width`` ranks.

    ``pieces`` are languages, row after row of the batch; a number stands for that many zero ranks, which pad a row to
    ``width``. ``scale`` [batch, width, 1] holds the weights, None where every weight is 1.
    """

    pieces: tuple[str | int, ...]
    scale: Tensor | None
    width: int


class BatchMixture:
    """The mapping matrix W of one batch, sparse: for each row the languages with a weight other than zero.

    ``runs`` is set where the rows form few runs of equal mixtures, so that one product a run is faster than gathering
    the adapters of every row; else it is None.

    Args:
        lengths: the tokens of each row, for rows that follow each other without padding in one dimension [tokens]. The
            size of the batch is then their sum, and ``runs`` is always set, in tokens.
    """

    def __init__(self, rows: Sequence[Mapping[str, float]], lengths: Sequence[int] | None = None) -> None:
        self.rows: tuple[Mixture, ...] = tuple(_clean(row) for row in rows)
        self.languages: tuple[str, ...] = tuple(sorted({name for row in self.rows for name, _ in row}))
        runs = _runs(self.rows, [1] * len(self.rows) if lengths is None else lengths)
        few = len(runs) <= 1 or (len(runs) <= _MAX_RUNS and 2 * len(runs) <= len(self.rows))
        self.runs: tuple[Run, ...] | None = runs if few or lengths is not None else None
        self._size = len(self.rows) if lengths is None else sum(lengths)
        self._layouts: dict[tuple[tuple[int, ...], torch.device], Layout] = {}

    def __len__(self) -> int:
        return self._size

    def layout(self, ranks: tuple[int, ...], device: torch.device) -> Layout:
        """The layout for a layer where ``languages`` have these ranks; 0 where an adapter leaves the layer alone.

        Cached, since most layers of a model share one.
        """
        key = (ranks, device)
        if key not in self._layouts:
            self._layouts[key] = self._build(ranks, device)
        return self._layouts[key]

    def _build(self, ranks: tuple[int, ...], device: torch.device) -> Layout:
        rank_of = dict(zip(self.languages, ranks, strict=True))
        scale = [[weight for name, weight in row for _ in range(rank_of[name])] for row in self.rows]
        width = max(map(len, scale))
        pieces: list[str | int] = []
        for row, weights in zip(self.rows, scale, strict=True):
            pieces += [name for name, _ in row if rank_of[name]]
            pieces += [width - len(weights)] if len(weights) < width else []
        factors = None
        if any(weight != 1.0 for row in scale for weight in row):
            padded = [row + [0.0] * (width - len(row)) for row in scale]
            factors = torch.tensor(padded, device=device).unsqueeze(2)
        return Layout(tuple(pieces), factors, width)


def _runs(rows: Sequence[Mixture], lengths: Sequence[int]) -> tuple[Run, ...]:
    runs, start = [], 0
    for row, same in groupby(zip(rows, lengths, strict=True), key=itemgetter(0)):
        stop = start + sum(length for _, length in same)
        runs.append(Run(start, stop, row))
        start = stop
    return tuple(runs)


def _clean(row: Mapping[str, float]) -> Mixture:
    for language, weight in row.items():
        if not math.isfinite(weight):
            raise InputError(f"expected finite adapter weights, got {weight} for {language!r}; check the route")
    return tuple(sorted((name, float(weight)) for name, weight in row.items() if weight != 0))
