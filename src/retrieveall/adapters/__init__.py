"""LoRA adapters: the pool on disk, the weights in memory; ``retrieveall.adapters.bank`` puts them into the
model.

The bank is not imported here, so that listing adapters and reading their cards loads no torch.
"""

from __future__ import annotations

from retrieveall.adapters.card import AdapterCard
from retrieveall.adapters.pool import AdapterPool, read_adapter
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights, backbone_fingerprint

__all__ = [
    "AdapterCard",
    "AdapterPool",
    "LoraLayer",
    "LoraShape",
    "LoraWeights",
    "backbone_fingerprint",
    "read_adapter",
]
