"""A mixture of adapters as one adapter, for engines that run one adapter a row. Knows weights; knows no engine.

With s_p the scale of adapter p and w_p its weight, Σ_p w_p s_p B_p A_p is one adapter of rank Σ_p r_p: the A_p below
each other, the w_p s_p B_p side by side, scale 1. The sum is exact, but for the rounding of one product a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieveall.adapters.peft_config import CONFIG_NAME, peft_config
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights
from retrieveall.storage import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["merge_adapters", "merged_rank", "write_adapter"]

_WEIGHTS_NAME = "adapter_model.safetensors"


def merged_rank(adapters: Iterable[LoraWeights]) -> int:
    """Rank of the mixture: the sum of the highest ranks."""
    return sum(max((layer.rank for layer in weights.layers.values()), default=0) for weights in adapters)


def merge_adapters(adapters: Sequence[tuple[LoraWeights, float]]) -> LoraWeights:
    """The mixture of adapters with their weights as one adapter of equal rank in every layer.

    Layers that some adapters do not have, or have in a lower rank, are filled up with zeros: vLLM takes one rank for
    all layers. Products are computed in float32; the result has the widest dtype of what went in.
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
    return LoraWeights(LoraShape(rank, float(rank)), layers)


def _filled(matrix: Tensor, size: int, dim: int) -> Tensor:
    missing = list(matrix.shape)
    missing[dim] = size - matrix.shape[dim]
    import torch

    return torch.cat((matrix, matrix.new_zeros(missing)), dim=dim)


def write_adapter(target: Path, weights: LoraWeights) -> None:
    """Write PEFT's two files to the folder ``target``; the settings last, without which it is no adapter."""
    from safetensors.torch import save

    tensors: Mapping[str, Tensor] = {
        f"base_model.model.{name}.lora_{letter}.weight": tensor.contiguous()
        for name, layer in weights.layers.items()
        for letter, tensor in (("A", layer.a), ("B", layer.b))
    }
    write_atomic(target / _WEIGHTS_NAME, save(dict(tensors), metadata={"format": "pt"}))
    settings = peft_config(weights.shape, _last_parts(weights.layers))
    write_atomic(target / CONFIG_NAME, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())


def _last_parts(modules: Iterable[str]) -> list[str]:
    return sorted({module.rpartition(".")[2] for module in modules})
