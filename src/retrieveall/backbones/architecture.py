"""The architecture of a Llama or Qwen decoder, from its ``config.json``, and its parameter counts.

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

_KINDS = ("llama", "mistral", "qwen2", "qwen3")

Linear = tuple[int, int]
"""Input and output width of a linear layer."""


class Architecture(BaseModel):
    """Widths and counts, named as in ``config.json``.

    ``qkv_bias`` is derived: Qwen2 has these biases, Llama only with ``attention_bias``.
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

    @classmethod
    def from_config(cls, raw: Mapping[str, Any], where: str) -> Self:
        """From the contents of a ``config.json``; ``where`` names it in errors.

        Raises:
            ConfigError: an unsupported architecture, or a missing or invalid value.
        """
        kind = raw.get("model_type")
        if kind not in _KINDS:
            raise ConfigError(
                f"{where}: expected a model_type among {', '.join(_KINDS)} to plan for, got {str(kind)[:40]!r}; "
                "measure a short run instead"
            )
        heads, width = raw.get("num_attention_heads"), raw.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(width, int) or heads < 1:
            raise ConfigError(f"{where}: expected hidden_size and num_attention_heads as numbers; get the file again")
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        bias = bool(raw.get("attention_bias", False))
        facts = {name: raw.get(name) for name in (*names, "max_position_embeddings")}
        facts |= {
            "model_type": kind,
            "num_key_value_heads": raw.get("num_key_value_heads") or heads,
            "head_dim": raw.get("head_dim") or width // heads,
            "tie_word_embeddings": bool(raw.get("tie_word_embeddings", False)),
            "qkv_bias": kind == "qwen2" or bias,
            "output_bias": bias and kind != "qwen2",
            "mlp_bias": bool(raw.get("mlp_bias", False)),
            "head_norms": kind == "qwen3",
        }
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
        """The linear layers of one decoder layer by the last component of their names."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        width, inner = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (width, queries),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (queries, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }

    def parameters(self) -> int:
        """Parameters of the whole model, with tied embeddings counted once."""
        return self.linear_parameters() + self.other_parameters()

    def linear_parameters(self) -> int:
        """Parameters of the linear layers inside the decoder layers, which 4-bit loading quantises."""
        return self.num_hidden_layers * sum(fan_in * fan_out for fan_in, fan_out in self.linears().values())

    def other_parameters(self) -> int:
        """Parameters of embeddings, output embedding, norms and biases."""
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        widths = {name: fan_out for name, (_, fan_out) in self.linears().items()}
        layer = 2 * self.hidden_size + (2 * self.head_dim if self.head_norms else 0)
        layer += sum(widths[name] for name in ("q_proj", "k_proj", "v_proj")) if self.qkv_bias else 0
        layer += widths["o_proj"] if self.output_bias else 0
        layer += sum(widths[name] for name in ("gate_proj", "up_proj", "down_proj")) if self.mlp_bias else 0
        return tables + self.num_hidden_layers * layer + self.hidden_size

    def adapter_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Parameters of one LoRA adapter on the layers named in ``targets``.

        Raises:
            ConfigError: an unknown layer name.
        """
        linears = self.linears()
        chosen = [shape for name, shape in linears.items() if name in targets or ALL_LINEAR in targets]
        if not chosen:
            raise ConfigError(
                f"expected lora.target_modules among {', '.join(linears)}, got {', '.join(targets)[:80] or 'none'}"
            )
        return self.num_hidden_layers * rank * sum(fan_in + fan_out for fan_in, fan_out in chosen)
