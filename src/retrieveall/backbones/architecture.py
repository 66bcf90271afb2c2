"""The architecture of a Llama or Qwen decoder or a BERT or XLM-R encoder, by ``config.json``, and its parameter counts.

Arithmetic only; torch is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from retrieveall.config import ALL_LINEAR, parse_config
from retrieveall.errors import ConfigError

__all__ = ["Architecture", "Linear"]

_DECODERS = ("llama", "mistral", "qwen2", "qwen3")
_ENCODERS = ("bert", "roberta", "camembert", "xlm-roberta")  # xlm-roberta-xl has its norms elsewhere

Linear = tuple[int, int]
"""Input and output width of a linear layer."""


class Architecture(BaseModel):
    """Widths and counts, named as in ``config.json``.

    ``qkv_bias`` is derived: Qwen2 and encoders have these biases, Llama only with ``attention_bias``. An encoder is
    what ``load_backbone`` loads: without pooler and language modelling head, so its embeddings count as tied. Its
    positions are learned; ``type_vocab_size`` is its number of token types, 0 for a decoder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: str
    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=1)
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False
    type_vocab_size: int = Field(default=0, ge=0)

    @property
    def is_encoder(self) -> bool:
        return self.model_type in _ENCODERS

    @classmethod
    def from_config(cls, raw: Mapping[str, Any], where: str) -> Self:
        """From the contents of a ``config.json``; ``where`` names it in errors.

        Raises:
            ConfigError: an unsupported architecture, or a missing or invalid value.
        """
        kind = raw.get("model_type")
        known = (*_DECODERS, *_ENCODERS)
        if kind not in known:
            raise ConfigError(
                f"{where}: expected a model_type among {', '.join(known)} to plan for, got {str(kind)[:40]!r}; "
                "measure a short run instead"
            )
        heads, width = raw.get("num_attention_heads"), raw.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(width, int) or heads < 1:
            raise ConfigError(f"{where}: expected hidden_size and num_attention_heads as numbers; get the file again")
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        facts = {name: raw.get(name) for name in (*names, "max_position_embeddings")}
        facts["model_type"] = kind
        facts |= _encoder_facts(raw, heads, width) if kind in _ENCODERS else _decoder_facts(raw, heads, width)
        return parse_config(cls, facts, where)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """From a local model.

        Raises:
            ConfigError: no ``config.json``, or as ``from_config``.
        """
        from retrieveall.storage import read_json

        path = folder / "config.json"
        if not path.is_file():
            raise ConfigError(f"expected the configuration of the backbone at {path}, found none; check the path")
        return cls.from_config(read_json(path), str(path))

    def linears(self) -> dict[str, Linear]:
        """The linear layers of one layer: queries, keys, values, attention output, then those of the feed-forward part.

        A decoder's names are the last components. Three of an encoder's layers end in ``dense``; its names are whole
        paths inside the layer.
        """
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        width, inner = self.hidden_size, self.intermediate_size
        if self.is_encoder:
            return {
                "attention.self.query": (width, queries),
                "attention.self.key": (width, keys),
                "attention.self.value": (width, keys),
                "attention.output.dense": (queries, width),
                "intermediate.dense": (width, inner),
                "output.dense": (inner, width),
            }
        return {
            "q_proj": (width, queries),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (queries, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }

    def targeted(self, targets: Sequence[str]) -> dict[str, Linear]:
        """The linear layers that ``targets`` name by the ends of their paths, as PEFT does: ``output.dense`` of an
        encoder is its ``attention.output.dense`` too."""
        return {
            name: shape
            for name, shape in self.linears().items()
            if ALL_LINEAR in targets or any(name == each or name.endswith(f".{each}") for each in targets)
        }

    def parameters(self) -> int:
        """Parameters of the whole model, with tied embeddings counted once."""
        return self.linear_parameters() + self.other_parameters()

    def linear_parameters(self) -> int:
        """Parameters of the linear layers inside the layers, which 4-bit loading quantises."""
        return self.num_hidden_layers * sum(fan_in * fan_out for fan_in, fan_out in self.linears().values())

    def other_parameters(self) -> int:
        """Parameters of embeddings, output embedding, norms and biases."""
        tables = self.vocab_size * (1 if self.tie_word_embeddings else 2)
        norm = self.hidden_size
        if self.is_encoder:
            tables += self.max_position_embeddings + self.type_vocab_size
            norm *= 2  # LayerNorm has a bias
        layer = 2 * norm + (2 * self.head_dim if self.head_norms else 0) + self._biases()
        # The one norm outside the layers follows a decoder's last layer, or an encoder's embeddings.
        return tables * self.hidden_size + self.num_hidden_layers * layer + norm

    def _biases(self) -> int:
        """Biases of the linear layers of one layer."""
        widths = [fan_out for _, fan_out in self.linears().values()]
        biases = sum(widths[:3]) if self.qkv_bias else 0
        biases += widths[3] if self.output_bias else 0
        return biases + (sum(widths[4:]) if self.mlp_bias else 0)

    def adapter_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Parameters of one LoRA adapter on the layers named in ``targets``.

        Raises:
            ConfigError: an unknown layer name.
        """
        chosen = self.targeted(targets).values()
        if not chosen:
            raise ConfigError(
                f"expected lora.target_modules among {', '.join(self.linears())}, "
                f"got {', '.join(targets)[:80] or 'none'}"
            )
        return self.num_hidden_layers * rank * sum(fan_in + fan_out for fan_in, fan_out in chosen)


def _decoder_facts(raw: Mapping[str, Any], heads: int, width: int) -> dict[str, Any]:
    kind, bias = raw["model_type"], bool(raw.get("attention_bias", False))
    return {
        "num_key_value_heads": raw.get("num_key_value_heads") or heads,
        "head_dim": raw.get("head_dim") or width // heads,
        "tie_word_embeddings": bool(raw.get("tie_word_embeddings", False)),
        "qkv_bias": kind == "qwen2" or bias,
        "output_bias": bias and kind != "qwen2",
        "mlp_bias": bool(raw.get("mlp_bias", False)),
        "head_norms": kind == "qwen3",
    }


def _encoder_facts(raw: Mapping[str, Any], heads: int, width: int) -> dict[str, Any]:
    return {
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "tie_word_embeddings": True,
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "type_vocab_size": raw.get("type_vocab_size", 2),  # the default of transformers
    }
