"""Weights in fewer bits on the disk: embeddings in four bits a number, linear layers in eight.

``packed.safetensors`` takes the place of ``model.safetensors`` in a backbone's folder. In memory all weights are
float32, the same wherever they are read, so that an adapter fits what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from retrieveall.engines.local.four_bits import BLOCK, pack, unpack
from retrieveall.errors import ModelFolderError

__all__ = ["PACKED", "FourBits", "is_packed", "read_packed", "read_stored", "write_packed"]

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


class FourBits(NamedTuple):
    """A matrix as ``four_bits.pack`` returns it."""

    codes: Tensor
    scales: Tensor


def read_packed(folder: Path) -> dict[str, Tensor]:
    """The weights in float32 by name, of a file whose header was checked.

    Raises:
        ModelFolderError: as ``read_stored``.
    """
    return {
        name: unpack(*stored) if isinstance(stored, FourBits) else stored
        for name, stored in read_stored(folder).items()
    }


def read_stored(folder: Path) -> dict[str, Tensor | FourBits]:
    """As ``read_packed``, but what has four bits a number stays as it is.

    Raises:
        ModelFolderError: codes of another type or without scales that fit them, a weight that is there twice, NaN or
            infinity; names the tensor.
    """
    from safetensors.torch import load_file

    path = folder / PACKED
    stored = load_file(path)
    weights: dict[str, Tensor | FourBits] = {}
    for name, tensor in stored.items():
        if name.endswith(_SCALES):
            continue
        base = name.removesuffix(_FOUR).removesuffix(_EIGHT)
        if base in weights:
            raise ModelFolderError(f"{path}: expected one weight {base}, got two; get the model again")
        if name == base:
            weights[base] = _finite(path, name, tensor)
        else:
            weights[base] = _scaled(path, name, tensor, stored.get(base + _SCALES))
    return weights


def _scaled(path: Path, name: str, codes: Tensor, scales: Tensor | None) -> Tensor | FourBits:
    """The weight of codes and scales.

    Raises:
        ModelFolderError: they do not fit each other; a scale is NaN or infinity.
    """
    four = name.endswith(_FOUR)
    dtype = torch.uint8 if four else torch.int8
    if codes.dtype != dtype or codes.dim() != 2 or (four and codes.shape[1] * 2 % BLOCK):
        whole = f", columns a multiple of {BLOCK // 2}" if four else ""
        raise ModelFolderError(
            f"{path}: expected a matrix of {_plain(dtype)}{whole} in {name}, "
            f"got {_plain(codes.dtype)} {tuple(codes.shape)}; get the model again"
        )
    expected = (len(codes), codes.shape[1] * 2 // BLOCK) if four else (len(codes),)
    if scales is None or tuple(scales.shape) != expected or not scales.is_floating_point():
        found = "none" if scales is None else f"{_plain(scales.dtype)} {tuple(scales.shape)}"
        raise ModelFolderError(f"{path}: expected scales {expected} for {name}, got {found}; get the model again")
    wide = _finite(path, f"the scales of {name}", scales)
    return FourBits(codes, scales) if four else codes.float() * wide[:, None]


def _finite(path: Path, name: str, tensor: Tensor) -> Tensor:
    """The tensor in float32.

    Raises:
        ModelFolderError: NaN or infinity.
    """
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise ModelFolderError(f"{path}: {name} holds NaN or infinity; get the model again")
    return tensor


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
