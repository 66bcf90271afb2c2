"""Batches of what may fail while it is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["batched"]

T = TypeVar("T")


def batched(
    items: Iterable[T], size: int, *, weigh: Callable[[T], float] = lambda item: 0, most: float = math.inf
) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, which end, too, with the item that brings their weight to ``most``.

    Items before an error of ``items`` are yielded first, so that all that was read before it gets a prediction.
    """
    batch: list[T] = []
    weight = 0.0
    try:
        for item in items:
            batch.append(item)
            weight += weigh(item)
            if len(batch) == size or weight >= most:
                yield batch
                batch, weight = [], 0.0
    except Exception:  # whatever the caller's own iterator raises, and the file system in the middle of a file
        if batch:
            yield batch
        raise
    if batch:
        yield batch
