"""The learning rate over a run: warmup, then half a cosine down to nothing; or a part of that, for a run in phases."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["WHOLE", "Part", "schedule"]

Part = tuple[float, float]
"""From where to where in the whole schedule, 0 to 1."""

WHOLE: Part = (0.0, 1.0)


def schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float, part: Part = WHOLE) -> LambdaLR:
    """The schedule of a phase of ``steps`` optimiser steps, which begins at the rate at which the one before it ended.

    Args:
        warmup: share of the whole schedule, 0 to 1.
    """
    start, end = part

    def factor(step: int) -> float:
        position = start + (end - start) * step / max(steps, 1)
        if position < warmup:
            return position / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (position - warmup) / (1 - warmup))))

    return LambdaLR(optimizer, factor)
