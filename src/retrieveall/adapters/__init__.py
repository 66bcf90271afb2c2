"""LoRA adapters: the pool on disk, weights in memory, and the bank that adds them to a model.

The bank is ``retrieveall.adapters.bank``; it is not imported here, so that listing adapters loads no torch.
"""

from __future__ import annotations

from retrieveall.adapters.card import AdapterCard
from retrieveall.adapters.pool import AdapterPool, read_adapter, write_adapter
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights, backbone_fingerprint

__all__ = [
    "AdapterCard",
    "AdapterPool",
    "LoraLayer",
    "LoraShape",
    "LoraWeights",
    "backbone_fingerprint",
    "read_adapter",
    "write_adapter",
]
