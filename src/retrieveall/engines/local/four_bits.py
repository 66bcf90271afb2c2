"""Matrices in four bits a number, as llama.cpp's format Q4_0 has them: blocks of 32 numbers of a row with one scale.

Kept by the embeddings of a shipped encoder, which are most of its weights and are only looked up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BLOCK", "FourBitEmbedding", "pack", "unpack"]

BLOCK = 32

_SMALLEST = 2.0**-20
"""Of a scale; below it float16 rounds by more than a sixteenth, and what was unpacked would get other codes."""
_PAIRS = torch.stack((torch.arange(256) & 15, torch.arange(256) >> 4), dim=1).float() - 8
_ROWS = 512  # at once, so that a part of the matrix stays in the cache: five times as fast


def pack(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 [rows, columns / 2] and scales float16 [rows, columns / 32] of a float matrix [rows, columns].

    A number is ``scale * (code - 8)``, and the number of a block with the largest magnitude has the code 0. So what was
    unpacked is packed to the same codes. A block of numbers below 8e-6 becomes zeros.

    Raises:
        ValueError: ``columns`` is no multiple of 32; a number that is not finite or too large for a scale in float16.
    """
    if matrix.shape[1] % BLOCK:
        raise ValueError(f"expected a multiple of {BLOCK} columns, got {matrix.shape[1]}")
    rows, columns = matrix.shape
    blocks = matrix.float().reshape(rows, columns // BLOCK, BLOCK)
    largest = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
    scales = (largest / -8).half()
    if not scales.isfinite().all():
        raise ValueError("expected finite numbers of a magnitude below 500,000, got others")
    scales = torch.where(scales.abs() < _SMALLEST, torch.zeros_like(scales), scales)
    wide = scales.float()
    codes = torch.where(wide == 0, 8.0, (blocks / torch.where(wide == 0, 1.0, wide) + 8).round()).clamp(0, 15)
    flat = codes.to(torch.uint8).reshape(rows, columns)
    return flat[:, 0::2] | (flat[:, 1::2] << 4), scales.squeeze(2)


def unpack(codes: Tensor, scales: Tensor) -> Tensor:
    """The matrix float32 [rows, columns] that ``pack`` was given, but for rounding."""
    rows, bytes_a_row = codes.shape
    matrix = torch.empty(rows, 2 * bytes_a_row, device=codes.device)
    pairs = _PAIRS.to(codes.device).view(torch.int64).flatten()  # two numbers are looked up as one
    for first in range(0, rows, _ROWS):
        some = slice(first, first + _ROWS)
        torch.index_select(pairs, 0, codes[some].flatten().int(), out=matrix[some].view(torch.int64).flatten())
        matrix[some].view(*scales[some].shape, BLOCK).mul_(scales[some].float()[:, :, None])
    return matrix


class FourBitEmbedding(nn.Module):
    """An embedding that is unpacked row by row when it is looked up: an eighth of the memory of float32.

    Args:
        codes, scales: as ``pack`` returns them.
    """

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.codes: Tensor
        self.scales: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix: rows, columns."""
        return len(self.codes), 2 * self.codes.shape[1]

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def rows(self, ids: Tensor) -> Tensor:
        """Rows float32 [n, columns] of the numbers ``ids`` [n]."""
        return unpack(self.codes[ids], self.scales[ids])

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows(ids.flatten()).view(*ids.shape, -1)

    def every(self, step: int) -> Tensor:
        """The numbers 0, ``step``, 2 ``step`` and so on of the flattened matrix."""
        rows, columns = self.shape
        places = torch.arange(0, rows * columns, step)
        return self.rows(places // columns).gather(1, (places % columns)[:, None]).flatten()
