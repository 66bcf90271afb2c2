"""Bytes on the device, for training and for inference. Arithmetic over an architecture; knows no corpus.

Counted are weights, adapters with their optimiser, what backpropagation keeps, logits, and the cache of keys and
values. Not counted are the driver's own memory and what the allocator wastes: leave a tenth of the card free.
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
    """In bytes. ``activations`` with the configured choice; beside it both choices."""

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
    """In bytes. ``cache_per_row`` is what one row of a generating batch needs; 0 for tags."""

    weights: int
    adapters: int
    cache_per_row: int
    rows: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.adapters + self.rows * self.cache_per_row + self.working


def weight_bytes(architecture: Architecture, backbone: BackboneConfig) -> int:
    """Of the backbone as it is loaded."""
    wide = _BYTES[backbone.dtype]
    linear = _FOUR_BITS if backbone.quantization == "4bit" else wide
    return round(architecture.linear_parameters() * linear) + architecture.other_parameters() * wide


def activation_bytes(
    architecture: Architecture, lora: LoraSettings, *, tokens: int, width: int, checkpointing: bool
) -> int:
    """What is kept for the backward pass of ``tokens`` tokens; ``width`` is bytes of a number outside norms.

    Frozen linear layers keep no input of theirs; what stays is what norms, rotations, attention, the gate and the
    adapters need. Compared with what torch really keeps in tests/backbones/test_plan_arithmetic.py.
    """
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    linears = architecture.linears()
    queries, keys = linears["q_proj"][1], linears["k_proj"][1]
    norms = 2 * hidden * (4 + 4 + width)  # each: its input and the normalised states in float32, its output
    attention = (3 * queries + 3 * keys) * width  # rotated queries and keys, values, output; their products
    gate = 4 * inner * width  # gate, its activation, up, their product
    adapters = 0
    targets = {name: shape for name, shape in linears.items() if name in lora.target_modules}
    for inputs in (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",)):
        used = [targets[name] for name in inputs if name in targets]
        if used:
            dropped = width + 1 if lora.dropout else 0  # the input after dropout, and the mask
            adapters += used[0][0] * dropped + len(used) * lora.rank * 2 * width
    layer = norms + attention + gate + adapters
    if not checkpointing:
        return tokens * layer * architecture.num_hidden_layers
    kept = hidden * width * architecture.num_hidden_layers  # the input of every layer; then one layer at a time
    return tokens * (kept + layer)


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
    """Of one step on one device.

    Args:
        adapters: trained in the run.
        tokens: of the largest batch, padding included.
        read_tokens: positions of that batch where logits are read; ``read_vocabulary`` of them each.
        half: products in 16 bits, by the backbone's dtype or mixed precision.
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
    """Keys and values of one row of ``tokens`` tokens."""
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
    generates: bool,
) -> InferenceMemory:
    """Of one batch of ``rows`` rows of ``row_tokens`` tokens, of which ``batch_tokens`` pass at once."""
    wide = _BYTES[backbone.dtype]
    working = batch_tokens * (4 * architecture.hidden_size + 3 * architecture.intermediate_size) * wide
    if generates:
        working += rows * architecture.vocab_size * 4 * 2  # logits of the next token, and a copy under the mask
    return InferenceMemory(
        weights=weight_bytes(architecture, backbone),
        adapters=adapters * architecture.adapter_parameters(lora.rank, lora.target_modules) * wide,
        cache_per_row=cache_bytes(architecture, backbone.dtype, row_tokens) if generates else 0,
        rows=rows,
        working=working,
    )
