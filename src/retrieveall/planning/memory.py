"""Device memory in bytes for training and inference, computed from an architecture.

Includes weights, adapters with optimiser state, activations kept for backpropagation, logits and the key-value cache.
Excludes driver and allocator overhead: leave a tenth of the card free.
"""

from __future__ import annotations

from dataclasses import dataclass

from retrieveall.backbones import Architecture
from retrieveall.config import BackboneConfig, LoraSettings

__all__ = ["InferenceMemory", "TrainingMemory", "activation_bytes", "inference_memory", "training_memory"]

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_FOUR_BITS = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of an NF4 weight: 4 bits, an 8-bit scale for 64 weights, a float32 scale for 256 of those scales."""
_OPTIMISER = 4 + 4 + 8  # float32: the parameter, its gradient, two moments of AdamW
_LOGITS = 4 + 4 + 4  # float32: logits, their softmax, its gradient


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """In bytes. ``activations`` is as configured; the other two are with and without checkpointing."""

    weights: int
    optimiser: int
    activations: int
    logits: int
    with_checkpointing: int
    without_checkpointing: int

    @property
    def total(self) -> int:
        return self.weights + self.optimiser + self.activations + self.logits


@dataclass(frozen=True, slots=True)
class InferenceMemory:
    """In bytes. ``cache_per_row``: key-value cache of one row when generating; 0 for tagging."""

    weights: int
    adapters: int
    cache_per_row: int
    rows: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.adapters + self.rows * self.cache_per_row + self.working


def weight_bytes(architecture: Architecture, backbone: BackboneConfig) -> int:
    """Bytes of the loaded backbone."""
    wide = _BYTES[backbone.dtype]
    linear = _FOUR_BITS if backbone.quantization == "4bit" else wide
    return round(architecture.linear_parameters() * linear) + architecture.other_parameters() * wide


def activation_bytes(
    architecture: Architecture, lora: LoraSettings, *, tokens: int, width: int, checkpointing: bool
) -> int:
    """Bytes kept for the backward pass of ``tokens`` tokens; ``width``: bytes per number outside norms.

    Frozen linear layers do not keep their input; norms, attention, activation functions and adapters do. Tested
    against torch in tests/backbones/test_plan_arithmetic.py.
    """
    layer = (
        _kept_by_encoder_layer(architecture, width) if architecture.is_encoder else _kept_by_layer(architecture, width)
    )
    layer += _kept_by_adapters(architecture, lora, width)
    if not checkpointing:
        return tokens * layer * architecture.num_hidden_layers
    kept = (
        architecture.hidden_size * width * architecture.num_hidden_layers
    )  # the input of every layer; then one layer at a time
    return tokens * (kept + layer)


def _kept_by_layer(architecture: Architecture, width: int) -> int:
    """Bytes a token that a decoder layer keeps."""
    hidden, inner, linears = architecture.hidden_size, architecture.intermediate_size, architecture.linears()
    queries, keys = linears["q_proj"][1], linears["k_proj"][1]
    norms = 2 * hidden * (4 + 4 + width)  # each: input and normalised states in float32, output
    attention = (3 * queries + 3 * keys) * width  # rotated queries and keys, values, output; their products
    gate = 4 * inner * width  # gate, its activation, up, their product
    return norms + attention + gate


def _kept_by_encoder_layer(architecture: Architecture, width: int) -> int:
    """Bytes a token that an encoder layer keeps; what its norms and its activation function give, adapters keep."""
    hidden = architecture.hidden_size
    norms = 2 * hidden * 4  # the input of each in float32
    attention = 4 * hidden * width  # queries, keys, values, output
    return norms + attention + architecture.intermediate_size * width  # the input of the activation function


def _kept_by_adapters(architecture: Architecture, lora: LoraSettings, width: int) -> int:
    """Bytes a token that the adapters of one layer keep."""
    targets, kept = architecture.targeted(lora.target_modules), 0
    own_input = width if architecture.is_encoder else 0  # a decoder layer keeps it itself
    names = [*architecture.linears()]
    feed_forward = [[names[4]], [names[5]]] if architecture.is_encoder else [names[4:6], [names[6]]]
    for same_input in (names[:3], [names[3]], *feed_forward):
        used = [targets[name] for name in same_input if name in targets]
        if used:
            dropped = width + 1 if lora.dropout else own_input  # the input after dropout, and the mask
            kept += used[0][0] * dropped + len(used) * lora.rank * 2 * width
    return kept


def training_memory(
    architecture: Architecture,
    backbone: BackboneConfig,
    lora: LoraSettings,
    *,
    adapters: int,
    tokens: int,
    read_tokens: int,
    read_vocabulary: int,
    checkpointing: bool,
    half: bool,
) -> TrainingMemory:
    """Memory of one step on one device.

    Args:
        adapters: number of trained adapters.
        tokens: tokens of the largest batch, including padding.
        read_tokens: positions of that batch with logits; ``read_vocabulary`` logits each.
        half: 16-bit computation, by the backbone's dtype or mixed precision.
    """
    width = 2 if half else 4
    both = [
        activation_bytes(architecture, lora, tokens=tokens, width=width, checkpointing=choice)
        for choice in (True, False)
    ]
    return TrainingMemory(
        weights=weight_bytes(architecture, backbone),
        optimiser=adapters * architecture.adapter_parameters(lora.rank, lora.target_modules) * _OPTIMISER,
        activations=both[0] if checkpointing else both[1],
        logits=read_tokens * read_vocabulary * _LOGITS,
        with_checkpointing=both[0],
        without_checkpointing=both[1],
    )


def cache_bytes(architecture: Architecture, dtype: str, tokens: int) -> int:
    """Bytes of the keys and values of one row of ``tokens`` tokens."""
    keys = architecture.num_key_value_heads * architecture.head_dim
    return 2 * architecture.num_hidden_layers * keys * tokens * _BYTES[dtype]


def inference_memory(
    architecture: Architecture,
    backbone: BackboneConfig,
    lora: LoraSettings,
    *,
    adapters: int,
    row_tokens: int,
    rows: int,
    batch_tokens: int,
    writes: bool,
) -> InferenceMemory:
    """Memory of a batch of ``rows`` rows of ``row_tokens`` tokens, with ``batch_tokens`` in one forward pass."""
    wide = _BYTES[backbone.dtype]
    inner = (2 if architecture.is_encoder else 3) * architecture.intermediate_size  # a decoder's has a gate beside it
    working = batch_tokens * (4 * architecture.hidden_size + inner) * wide
    if writes:
        working += rows * architecture.vocab_size * 4 * 2  # logits of the next token, and a masked copy
    return InferenceMemory(
        weights=weight_bytes(architecture, backbone),
        adapters=adapters * architecture.adapter_parameters(lora.rank, lora.target_modules) * wide,
        cache_per_row=cache_bytes(architecture, backbone.dtype, row_tokens) if writes else 0,
        rows=rows,
        working=working,
    )
