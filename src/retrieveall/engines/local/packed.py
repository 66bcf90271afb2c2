"""Weights in fewer bits on the disk: embeddings in four bits a number, linear layers in eight.

``packed.safetensors`` takes the place of ``model.safetensors`` in a backbone's folder. In memory all weights are
float32, the same wherever they are read, so that an adapter fits what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from retrieveall.engines.local.four_bits import BLOCK, pack, unpack
from retrieveall.errors import ModelFolderError

__all__ = ["PACKED", "is_packed", "read_packed", "write_packed"]

PACKED = "packed.safetensors"
"""The file's name."""

_FOUR, _EIGHT, _SCALES = ".codes4", ".codes8", ".scales"


def is_packed(folder: Path) -> bool:
    """Whether the backbone in ``folder`` has packed weights."""
    return (folder / PACKED).is_file()


def write_packed(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights: tables of embeddings with four bits a number, other matrices with eight, the rest in float16.

    A matrix with eight bits has one scale a row.
    """
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith("word_embeddings.weight") and weight.shape[1] % BLOCK == 0:
            stored[name + _FOUR], stored[name + _SCALES] = pack(weight)
        elif weight.dim() == 2 and "embeddings" not in name:
            scales = (weight.float().abs().amax(dim=1) / 127).clamp(min=1e-7)
            scales = scales.half().float()
            codes = (weight.float() / scales[:, None]).round().clamp(-127, 127)
            stored[name + _EIGHT], stored[name + _SCALES] = codes.to(torch.int8), scales.half()
        else:
            stored[name] = weight.half()
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, path, {"format": "pt"})


def read_packed(folder: Path) -> dict[str, Tensor]:
    """The weights in float32 by name.

    Raises:
        ModelFolderError: codes without scales, or of another shape than they.
    """
    from safetensors.torch import load_file

    path = folder / PACKED
    stored = load_file(path)
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith((_FOUR, _EIGHT)):
            base = name.removesuffix(_FOUR).removesuffix(_EIGHT)
            scales = stored.get(base + _SCALES)
            four = name.endswith(_FOUR)
            expected = (len(tensor), tensor.shape[1] * 2 // BLOCK) if four else (len(tensor),)
            if scales is None or tuple(scales.shape) != expected:
                raise ModelFolderError(
                    f"{path}: expected scales {expected} for {base}, found none; get the model again"
                )
            weights[base] = unpack(tensor, scales) if four else tensor.float() * scales.float()[:, None]
        elif not name.endswith(_SCALES):
            weights[name] = tensor.float()
    return weights
