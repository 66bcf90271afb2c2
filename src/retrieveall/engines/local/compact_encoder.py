"""A BERT encoder without the transformers library, which takes seconds to import: for the shipped model on a CPU.

Module names, weights and results equal those of transformers' ``BertModel`` without its pooling layer (tested), so that
the adapter bank and the fingerprint work unchanged. Anything else is left to transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.engines.local.few_shapes import gelu
from retrieveall.engines.local.four_bits import FourBitEmbedding, unpack
from retrieveall.engines.local.packed import FourBits, is_packed, read_stored
from retrieveall.storage import read_json

__all__ = ["CompactBert", "load_compact_encoder"]

_LARGEST = 400_000_000
"""Maximum bytes of weights for which this implementation is used."""

_TABLE = "embeddings.word_embeddings.weight"
_UNUSED = ("pooler.", "embeddings.position_ids")  # the latter in files of old versions of transformers


@dataclass(frozen=True)
class _Shape:
    """The keys of ``config.json`` that this module supports."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads


def _plain_shape(config: dict[str, Any]) -> _Shape | None:
    """The architecture of a plain BERT encoder; None for anything else."""
    plain = (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and not config.get("is_decoder")
        and not config.get("add_cross_attention")
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("quantization_config")
    )
    if not plain or any(name not in config for name in _Shape.__dataclass_fields__):
        return None
    return _Shape(**{name: config[name] for name in _Shape.__dataclass_fields__})


def _fits(shape: _Shape, state: dict[str, tuple[int, ...]]) -> bool:
    """Whether the sizes are those of the weights, before a model of these sizes is made."""
    sizes = [getattr(shape, name) for name in _Shape.__dataclass_fields__ if name != "layer_norm_eps"]
    if not all(type(size) is int and size > 0 for size in sizes) or type(shape.layer_norm_eps) is not float:
        return False
    if shape.hidden_size % shape.num_attention_heads:
        return False
    rows = {
        _TABLE: shape.vocab_size,
        "embeddings.position_embeddings.weight": shape.max_position_embeddings,
        "embeddings.token_type_embeddings.weight": shape.type_vocab_size,
        "encoder.layer.0.intermediate.dense.weight": shape.intermediate_size,
    }
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layer.")}
    return len(layers) == shape.num_hidden_layers and all(
        name in state and state[name] == (size, shape.hidden_size) for name, size in rows.items()
    )


class _Linear(nn.Linear):
    """Without initial weights: random numbers would take half of the time that loading takes, and be overwritten."""

    def reset_parameters(self) -> None: ...


class _Embeddings(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        # Random numbers for a table of this size would take half a second, and are overwritten.
        table = torch.empty(shape.vocab_size, shape.hidden_size)
        self.word_embeddings: nn.Embedding | FourBitEmbedding = nn.Embedding(
            shape.vocab_size, shape.hidden_size, _weight=table
        )
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.token_type_embeddings = nn.Embedding(shape.type_vocab_size, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        x = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        normed: Tensor = self.LayerNorm(x + self.position_embeddings.weight[places])
        return normed


class _SelfAttention(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self._size = shape.head_size
        self.query = _Linear(shape.hidden_size, shape.hidden_size)
        self.key = _Linear(shape.hidden_size, shape.hidden_size)
        self.value = _Linear(shape.hidden_size, shape.hidden_size)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        out, start = torch.empty_like(q), 0
        for length, same in groupby(lengths):
            rows = sum(1 for _ in same)
            some = slice(start, start + rows * length)
            heads = (part[some].view(rows, length, -1, self._size).transpose(1, 2) for part in (q, k, v))
            seen = F.scaled_dot_product_attention(*heads)
            out[some].view(rows, length, -1, self._size).copy_(seen.transpose(1, 2))
            start += rows * length
        return out


class _Added(nn.Module):
    """A projection that is added to what went into the block, and normalised."""

    def __init__(self, inner: int, shape: _Shape) -> None:
        super().__init__()
        self.dense = _Linear(inner, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(x) + residual)
        return normed


class _Attention(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.self = _SelfAttention(shape)
        self.output = _Added(shape.hidden_size, shape)


class _Intermediate(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.dense = _Linear(shape.hidden_size, shape.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.dense(x))


class _Layer(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        self.intermediate = _Intermediate(shape)
        self.output = _Added(shape.intermediate_size, shape)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        return self.finish(x, self.attend(x, lengths))

    def attend(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """What each token takes from the tokens of its row; all that follows concerns one token alone."""
        seen: Tensor = self.attention.self(x, lengths)
        return seen

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        x = self.attention.output(seen, x)
        added: Tensor = self.output(self.intermediate(x), x)
        return added


class _Encoder(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))


class CompactBert(nn.Module):
    """The part of ``BertModel`` that scoring needs.

    Rows follow each other without padding: tokens are [tokens] and states [tokens, width], with the length of each row
    beside them. Rows of equal length that are neighbours share one attention product.
    """

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = _Encoder(shape)
        names = {name: getattr(shape, name) for name in _Shape.__dataclass_fields__}
        self.config = SimpleNamespace(model_type="bert", **names)

    @property
    def base_model(self) -> CompactBert:
        return self

    @property
    def dtype(self) -> torch.dtype:
        return self.embeddings.LayerNorm.weight.dtype

    def forward(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """The states of all tokens."""
        return self.finish(*self.attend(ids, lengths))

    def attend(self, ids: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Everything up to the attention of the last layer, whose rest is only needed where scores are read.

        Returns:
            What ``finish`` takes, or some rows of it: the input of the last layer and what its attention found.
        """
        places = torch.cat([torch.arange(length) for length in lengths])
        x = self.embeddings(ids, places)
        for layer in self.encoder.layer[:-1]:
            x = layer(x, lengths)
        return x, self._last.attend(x, lengths)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """The states of the tokens."""
        return self._last.finish(x, seen)

    @property
    def _last(self) -> _Layer:
        last = self.encoder.layer[-1]
        assert isinstance(last, _Layer)
        return last

    def get_input_embeddings(self) -> nn.Embedding | FourBitEmbedding:
        return self.embeddings.word_embeddings

    def get_output_embeddings(self) -> None:
        """An encoder scores with its input embeddings."""
        return


def load_compact_encoder(folder: Path, dtype: torch.dtype) -> CompactBert | None:
    """The model of a plain BERT folder whose files were checked; None if transformers is needed."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    if not config.is_file() or not (is_packed(folder) or weights.is_file()):
        return None
    shape = _plain_shape(read_json(config))
    if shape is None or (weights.is_file() and weights.stat().st_size > _LARGEST):
        return None
    if is_packed(folder):
        state = read_stored(folder)
    else:
        from safetensors.torch import load_file

        state = dict(load_file(str(weights)))
    state = {name.removeprefix("bert."): stored for name, stored in state.items()}
    table = state.get(_TABLE)
    if isinstance(table, FourBits) and dtype != torch.float32:
        state[_TABLE] = unpack(*table)
    tensors = {
        name: stored.to(dtype)
        for name, stored in state.items()
        if not isinstance(stored, FourBits) and not name.startswith(_UNUSED)
    }
    embedding = None if _TABLE in tensors or not isinstance(table, FourBits) else FourBitEmbedding(*table)
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if embedding is not None:
        sizes[_TABLE] = embedding.shape
    if not _fits(shape, sizes):
        return None
    model = CompactBert(shape)  # not on the meta device, which would import the compiler
    if sizes != {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}:
        return None  # transformers reports the error
    if embedding is not None:  # its rows are unpacked when they are looked up
        model.embeddings.word_embeddings = embedding
    model.load_state_dict(tensors, assign=True, strict=embedding is None)
    model.requires_grad_(False)
    return model.eval()
