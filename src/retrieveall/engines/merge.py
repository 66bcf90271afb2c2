"""Merges a mixture of adapters into one adapter, for engines that run one adapter per row.

With s_p the scale of adapter p and w_p its weight, Σ_p w_p s_p B_p A_p is one adapter of rank Σ_p r_p: the A_p stacked
vertically, the w_p s_p B_p horizontally, scale 1. The merge is exact up to the rounding of one product per number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["merge_adapters", "merged_rank"]

_WEIGHTS_NAME = "adapter_model.safetensors"


def merged_rank(adapters: Iterable[LoraWeights]) -> int:
    """Rank of the merged adapter: the sum of the maximum ranks."""
    return sum(max((layer.rank for layer in weights.layers.values()), default=0) for weights in adapters)


def merge_adapters(adapters: Sequence[tuple[LoraWeights, float]]) -> LoraWeights:
    """Merge weighted adapters into one adapter with the same rank in every layer.

    Missing layers and lower ranks are padded with zeros, since vLLM requires one rank for all layers. Products are
    computed in float32; the result has the widest input dtype.
    """
    import torch

    rank = merged_rank(weights for weights, _ in adapters)
    layers: dict[str, LoraLayer] = {}
    for name in sorted({name for weights, _ in adapters for name in weights.layers}):
        parts = [(weights.layers[name], weight) for weights, weight in adapters if name in weights.layers]
        a = torch.cat([layer.a.float() for layer, _ in parts])
        b = torch.cat([layer.b.float() * (layer.scaling * weight) for layer, weight in parts], dim=1)
        kind = parts[0][0].a.dtype
        for layer, _ in parts:
            kind = torch.promote_types(kind, torch.promote_types(layer.a.dtype, layer.b.dtype))
        layers[name] = LoraLayer(_filled(a, rank, 0).to(kind), _filled(b, rank, 1).to(kind), 1.0)
    modules = tuple(sorted({name.rpartition(".")[2] for name in layers}))
    return LoraWeights(LoraShape(rank, float(rank), target_modules=modules), layers)


def _filled(matrix: Tensor, size: int, dim: int) -> Tensor:
    missing = list(matrix.shape)
    missing[dim] = size - matrix.shape[dim]
    import torch

    return torch.cat((matrix, matrix.new_zeros(missing)), dim=dim)
