"""Few different numbers of rows for oneDNN, with which torch computes bfloat16 products and GELU on a CPU.

oneDNN compiles code for every shape and keeps that of the last 1,024, 0.7 MB each for a bfloat16 product: where every
batch has another number of tokens, memory grows by hundreds of megabytes, and most products wait for the compiler.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gelu", "padded_rows"]

_STEP = 32
_STEPS = 16
"""Between two powers of two, above ``_STEP * _STEPS`` rows."""


def padded_rows(rows: int) -> int:
    """The number of rows, at least ``rows``, with which to multiply: one of 24 up to 1,024."""
    step = max(_STEP, (1 << (rows - 1).bit_length()) // _STEPS)
    return -(-rows // step) * step


def gelu(x: Tensor) -> Tensor:
    """``F.gelu`` of [rows, width], bit for bit; overwrites ``x`` where no gradient is recorded."""
    if torch.is_grad_enabled():
        return F.gelu(x)
    # Not padded, since a copy would take as long as the function: what is left over has fewer than _STEP rows.
    whole = len(x) // _STEP * _STEP
    for part in (x[:whole], x[whole:]):
        if len(part):
            torch.ops.aten.gelu_(part)
    return x
