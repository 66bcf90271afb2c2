"""Sequences of many lengths in rows of one length: no padding to speak of, and one shape for the compiler.

A row holds several sequences; attention stays inside each, and positions begin anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

__all__ = ["Batch", "Flat", "join", "load_flat", "pack", "tagging_sources"]


@dataclass
class Flat:
    """Sequences end to end: ``ids[offsets[i]:offsets[i + 1]]`` is sequence i; the same for reads and their tags.

    ``reads`` and ``starts`` are positions inside the sequence: the last and first sub-word of each word of the text.
    """

    ids: np.ndarray
    offsets: np.ndarray
    reads: np.ndarray
    starts: np.ndarray
    tags: np.ndarray
    read_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def load_flat(path: Path) -> Flat:
    arrays = {name: tensor.numpy() for name, tensor in load_file(str(path)).items()}
    return Flat(**arrays)


def join(parts: list[Flat]) -> Flat:
    """Several sets as one."""

    def ends(name: str) -> np.ndarray:
        lengths = np.concatenate([np.diff(getattr(part, name)) for part in parts])
        return np.concatenate([[0], np.cumsum(lengths)])

    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "reads", "starts", "tags")
    }
    return Flat(**columns, offsets=ends("offsets"), read_offsets=ends("read_offsets"))


def tagging_sources(
    folders: Sequence[tuple[Path, float]], languages: Sequence[str], knowledge: Sequence[float]
) -> tuple[list[Flat], list[float]]:
    """The sentences of ``languages`` in every form that has a share, and the shares.

    Args:
        folders: what ``prepare.py`` wrote, each with its share of the sentences.
        knowledge: shares of sentences with none, with the entity level, and with both levels.
    """
    sources, weights = [], []
    for folder, share in folders:
        for name, weight in zip(("none", "entity", "full"), knowledge, strict=True):
            if share * weight:
                paths = [folder / language / f"train.{name}.safetensors" for language in languages]
                sources.append(join([load_flat(path) for path in paths]))
                weights.append(share * weight)
    return sources, weights


@dataclass
class Batch:
    """``ids``, ``segments``, ``positions``: int64 [rows, length]; ``reads``: int64 [n] into the flattened rows."""

    ids: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    reads: torch.Tensor
    tags: torch.Tensor

    def mask(self) -> torch.Tensor:
        """bool [rows, 1, length, length]: attention inside a sequence only."""
        return (self.segments[:, :, None] == self.segments[:, None, :])[:, None]


def plan_rows(lengths: np.ndarray, order: Sequence[int], row_length: int) -> Iterator[list[int]]:
    """First fit over a few open rows; sequences longer than a row are left out."""
    open_rows: list[tuple[list[int], int]] = []
    for i in order:
        size = int(lengths[i])
        if size > row_length:
            continue
        for slot, (row, used) in enumerate(open_rows):
            if used + size <= row_length:
                row.append(i)
                open_rows[slot] = (row, used + size)
                break
        else:
            open_rows.append(([i], size))
        if len(open_rows) > 32:
            fullest = max(range(len(open_rows)), key=lambda slot: open_rows[slot][1])
            yield open_rows.pop(fullest)[0]
    for row, _ in open_rows:
        yield row


def pack(
    sources: Sequence[Flat], choice: np.ndarray, order: Sequence[int], rows: int, row_length: int, pad: int
) -> Iterator[Batch]:
    """Batches of ``rows`` rows; sequence i is taken from ``sources[choice[i]]``. An incomplete one is left out."""
    lengths = np.stack([source.lengths() for source in sources])[choice, np.arange(len(choice))]
    buffer: list[list[int]] = []
    for row in plan_rows(lengths, order, row_length):
        buffer.append(row)
        if len(buffer) == rows:
            yield _batch(sources, choice, buffer, row_length, pad)
            buffer = []


def _batch(sources: Sequence[Flat], choice: np.ndarray, plan: list[list[int]], row_length: int, pad: int) -> Batch:
    shape = (len(plan), row_length)
    ids = np.full(shape, pad, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    reads: list[np.ndarray] = []
    tags: list[np.ndarray] = []
    for r, row in enumerate(plan):
        place = 0
        for number, i in enumerate(row, start=1):
            source = sources[choice[i]]
            first, last = source.offsets[i], source.offsets[i + 1]
            size = last - first
            ids[r, place : place + size] = source.ids[first:last]
            segments[r, place : place + size] = number
            positions[r, place : place + size] = np.arange(size)
            a, b = source.read_offsets[i], source.read_offsets[i + 1]
            reads.append(source.reads[a:b].astype(np.int64) + r * row_length + place)
            tags.append(source.tags[a:b].astype(np.int64))
            place += size
    return Batch(
        *(torch.from_numpy(array) for array in (ids, segments, positions)),
        torch.from_numpy(np.concatenate(reads)),
        torch.from_numpy(np.concatenate(tags)),
    )
