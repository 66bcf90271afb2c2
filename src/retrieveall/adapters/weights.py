"""One LoRA adapter in memory: its shape, its tensors, and the fingerprint of the backbone it belongs to.

Knows nothing of files, languages or forward passes. Torch is imported inside functions, so that listing
adapters loads no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from retrieveall.config import LoraSettings
from retrieveall.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LoraLayer", "LoraShape", "LoraWeights", "backbone_fingerprint", "matches_target"]

_SAMPLE = 1024  # elements of each tensor that enter the fingerprint


def matches_target(module: str, targets: Iterable[str]) -> bool:
    """PEFT's rule for a list of target modules: the full dotted name, or its last parts."""
    return any(module == target or module.endswith(f".{target}") for target in targets)


@dataclass(frozen=True)
class LoraShape:
    """Rank, alpha and target modules of an adapter, in PEFT's terms.

    ``rank_pattern`` and ``alpha_pattern`` override rank and alpha for modules whose name ends with the key (a key that
    starts with ``^`` must be the whole name). With an empty ``target_modules`` the tensors alone say which modules are
    adapted.
    """

    rank: int
    alpha: float
    use_rslora: bool = False
    target_modules: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: LoraSettings) -> LoraShape:
        return cls(settings.rank, settings.alpha, settings.use_rslora, settings.target_modules)

    def rank_of(self, module: str) -> int:
        key = _pattern_key(self.rank_pattern, module)
        return self.rank if key is None else self.rank_pattern[key]

    def scaling_of(self, module: str) -> float:
        """The LoRA scaling: ``alpha / rank``, or ``alpha / sqrt(rank)`` if rank-stabilised (arXiv 2312.03732)."""
        key = _pattern_key(self.alpha_pattern, module)
        alpha = self.alpha if key is None else self.alpha_pattern[key]
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _pattern_key(pattern: Iterable[str], module: str) -> str | None:
    for key in pattern:  # the first match counts, as in PEFT
        if module == key[1:] if key.startswith("^") else matches_target(module, (key,)):
            return key
    return None


@dataclass(frozen=True)
class LoraLayer:
    """One adapted linear layer: ``y += scaling * B A x`` with ``a`` [rank, in] and ``b`` [out, rank]."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])


@dataclass(frozen=True)
class LoraWeights:
    """A whole adapter: its layers by dotted module name, such as ``model.layers.0.self_attn.q_proj``."""

    shape: LoraShape
    layers: Mapping[str, LoraLayer]

    def scaled(self, factor: float) -> LoraWeights:
        """The same adapter with its LoRA scaling multiplied by ``factor``: alpha changes, A and B do not.

        Raises:
            InputError: ``factor`` is not a positive number.
        """
        if not 0.0 < factor < math.inf:
            raise InputError(f"expected a positive factor for the LoRA scaling, got {factor}")
        alphas = {module: alpha * factor for module, alpha in self.shape.alpha_pattern.items()}
        shape = replace(self.shape, alpha=self.shape.alpha * factor, alpha_pattern=alphas)
        layers = {name: replace(layer, scaling=layer.scaling * factor) for name, layer in self.layers.items()}
        return LoraWeights(shape, layers)


@runtime_checkable
class Sampled(Protocol):
    """A weight that is not held as numbers, but can say which they are."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def every(self, step: int) -> Tensor:
        """The numbers 0, ``step``, 2 ``step`` and so on of the flattened weight."""
        ...


def backbone_fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, the shapes and a strided sample of at most 1,024 elements of every parameter.

    It takes milliseconds for a model of any size, and changes when the model is retrained, resized or cast to another
    dtype. It does not cover every byte; the manifest's checksums do. A model with tied embeddings has the fingerprint
    of its safetensors file, which lacks the tied copy.
    """
    import torch

    named: dict[str, Tensor | Sampled] = {}
    if isinstance(model, torch.nn.Module):
        named.update(model.named_parameters())
        named.update({f"{name}.weight": each for name, each in model.named_modules() if isinstance(each, Sampled)})
    else:
        named.update(model)
    digest = hashlib.sha256()
    for name, weight in sorted(named.items()):
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        step = max(1, -(-math.prod(weight.shape) // _SAMPLE))
        every = weight.every(step) if isinstance(weight, Sampled) else weight.detach().reshape(-1)[::step]
        digest.update(every.to(device="cpu", dtype=torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
