"""A small Llama without the transformers library, to load the shipped model four seconds faster.

Importing transformers' Llama loads sympy, torch.distributed and a compiler, 4.3 s on the machine of
``docs/lab_book.md``, most of the time of a command that tags one sentence. This module implements only plain Llama on a
CPU with full attention. Module names, weights and results equal those of ``LlamaForCausalLM`` (tested), so that the
adapter bank and the fingerprint work unchanged. Anything else (scaled rotary embeddings, biases, other architectures)
is left to transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.storage import read_json

__all__ = ["CompactLlama", "load_compact"]

_LARGEST = 400_000_000
"""Maximum bytes of weights for which this implementation is used."""


@dataclass(frozen=True)
class _Shape:
    """The keys of ``config.json`` that this module supports."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads


def _plain_shape(config: dict[str, Any]) -> _Shape | None:
    """The architecture of a plain Llama; None for anything else."""
    rope = config.get("rope_parameters") or {}
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    plain = (
        config.get("architectures") == ["LlamaForCausalLM"]
        and config.get("hidden_act") == "silu"
        and not config.get("attention_bias")
        and not config.get("mlp_bias")
        and not config.get("rope_scaling")
        and rope.get("rope_type", "default") == "default"
        and not config.get("quantization_config")
        and config.get("num_hidden_layers")
        and isinstance(heads, int)
        and isinstance(width, int)
        and config.get("head_dim") in (None, width // heads)
    )
    if not plain:
        return None
    names = [name for name in _Shape.__dataclass_fields__ if name != "rope_theta"]
    if any(name not in config for name in names):
        return None
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    return _Shape(**{name: config[name] for name in names}, rope_theta=float(theta))


class _Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self._eps)


class _Attention(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self._size = shape.head_size
        self._repeats = shape.num_attention_heads // shape.num_key_value_heads
        inner, shared = (heads * shape.head_size for heads in (shape.num_attention_heads, shape.num_key_value_heads))
        self.q_proj = nn.Linear(shape.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(inner, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, mask: Tensor, turn: _Turn, at: Tensor | None) -> Tensor:
        batch = x.shape[0]

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, projected.shape[1], -1, self._size).transpose(1, 2)

        asking = x if at is None else _take(x, at)
        q, k, v = heads(self.q_proj(asking)), heads(self.k_proj(x)), heads(self.v_proj(x))
        k = turn(k)
        q = turn(q) if at is None else turn.at(at)(q)
        if at is not None:
            mask = mask.gather(2, at[:, None, :, None].expand(-1, -1, -1, mask.shape[3]))
        if self._repeats > 1:
            k, v = (each.repeat_interleave(self._repeats, dim=1) for each in (k, v))
        weights = torch.softmax(q @ k.transpose(2, 3) * self._size**-0.5 + mask, dim=-1)
        mixed: Tensor = self.o_proj((weights @ v).transpose(1, 2).reshape(batch, q.shape[2], -1))
        return mixed


@dataclass(frozen=True)
class _Turn:
    """Rotary position embedding in the half-and-half layout of Llama on the Hub.

    ``cos`` and ``sin`` are [length, size], or [batch, 1, length, size] if every row has its own positions.
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [batch, heads, length, size]"""
        left, right = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat((-right, left), dim=-1) * self.sin

    def at(self, positions: Tensor) -> _Turn:
        return _Turn(self.cos[positions][:, None], self.sin[positions][:, None])


def _take(x: Tensor, at: Tensor) -> Tensor:
    """x [batch, length, width] at positions [batch, n]: [batch, n, width]"""
    return x.gather(1, at[:, :, None].expand(-1, -1, x.shape[2]))


class _Mlp(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


class _Layer(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape)
        self.mlp = _Mlp(shape)
        self.input_layernorm = _Norm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = _Norm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x: Tensor, mask: Tensor, turn: _Turn, at: Tensor | None = None) -> Tensor:
        mixed = self.self_attn(self.input_layernorm(x), mask, turn, at)
        x = (x if at is None else _take(x, at)) + mixed
        result: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return result


class _Body(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = _Norm(shape.hidden_size, shape.rms_norm_eps)
        self._frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_size, 2).float() / shape.head_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False, at: Tensor | None = None
    ) -> SimpleNamespace:
        """States [batch, length, width], or [batch, n, width] at the positions ``at`` [batch, n].

        ``attention_mask`` [batch, 1, length, length] is added to the attention logits. With ``at`` the last layer
        computes only these positions: words are a quarter of a prompt's tokens.
        """
        x = self.embed_tokens(input_ids)
        angles = torch.arange(input_ids.shape[1])[:, None] * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        turn = _Turn(angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        for layer in self.layers[:-1]:
            x = layer(x, attention_mask, turn)
        x = self.layers[-1](x, attention_mask, turn, at)
        return SimpleNamespace(last_hidden_state=self.norm(x))


class CompactLlama(nn.Module):
    """The part of ``LlamaForCausalLM`` that the engine needs, with the same module names."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=shape.max_position_embeddings)
        self.model = _Body(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if shape.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def base_model(self) -> nn.Module:
        return self.model

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def states_at(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Last states [n, width] at ``positions`` [n], ascending indices into the flattened batch."""
        rows = positions // ids.shape[1]
        counts = torch.bincount(rows, minlength=len(ids))
        column = torch.arange(len(positions)) - (counts.cumsum(0) - counts)[rows]
        at = torch.zeros(len(ids), int(counts.max()), dtype=torch.long)
        at[rows, column] = positions % ids.shape[1]
        states: Tensor = self.model(ids, mask, at=at).last_hidden_state
        return states[rows, column]

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head


def load_compact(folder: Path, dtype: torch.dtype) -> CompactLlama | None:
    """The model of a plain Llama folder whose files were checked; None if transformers is needed."""
    weights = folder / "model.safetensors"
    config = folder / "config.json"
    if not all(path.is_file() for path in (weights, config)) or weights.stat().st_size > _LARGEST:
        return None
    shape = _plain_shape(read_json(config))
    if shape is None:
        return None
    from safetensors.torch import load_file

    # Not on the meta device, which would import the compiler; the initial weights are overwritten.
    model = CompactLlama(shape)
    state = {name: tensor.to(dtype) for name, tensor in load_file(str(weights)).items()}
    if shape.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != expected:
        return None  # transformers reports the error
    model.load_state_dict(state, assign=True)
    if shape.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.requires_grad_(False)
    return model.eval()
