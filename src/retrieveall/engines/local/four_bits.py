"""Matrices in four bits a number, as llama.cpp's format Q4_0 has them: blocks of 32 numbers of a row with one scale.

Kept by the embeddings of a shipped encoder, which are most of its weights and are only looked up.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BLOCK", "pack", "unpack"]

BLOCK = 32


def pack(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 [rows, columns / 2] and scales float16 [rows, columns / 32] of a float matrix [rows, columns].

    A number is ``scale * (code - 8)``, and the number of a block with the largest magnitude has the code 0. So what was
    unpacked is packed to the same codes.

    Raises:
        ValueError: ``columns`` is no multiple of 32.
    """
    if matrix.shape[1] % BLOCK:
        raise ValueError(f"expected a multiple of {BLOCK} columns, got {matrix.shape[1]}")
    blocks = matrix.float().reshape(len(matrix), -1, BLOCK)
    largest = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
    scales = (largest / -8).half()
    wide = scales.float()
    codes = torch.where(wide == 0, 8.0, (blocks / torch.where(wide == 0, 1.0, wide) + 8).round()).clamp(0, 15)
    flat = codes.to(torch.uint8).reshape(len(matrix), -1)
    return flat[:, 0::2] | (flat[:, 1::2] << 4), scales.squeeze(2)


def unpack(codes: Tensor, scales: Tensor) -> Tensor:
    """The matrix float32 [rows, columns] that ``pack`` was given, but for rounding."""
    pairs = torch.stack((codes & 15, codes >> 4), dim=2).reshape(len(codes), -1, BLOCK)
    return ((pairs.float() - 8) * scales.float()[:, :, None]).reshape(len(codes), -1)
