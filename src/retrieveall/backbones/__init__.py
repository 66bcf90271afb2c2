"""Presets for common backbones such as ``qwen2.5-7b`` and ``xlm-roberta-base``, as YAML files.

A file holds the architecture (so that a run can be planned without a download), model and training settings, and the
differences between the decoders; encoders have tagging only. A user's own file of the same form can be given wherever
a preset name can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from retrieveall.backbones.architecture import Architecture
from retrieveall.config import LabelConfig, ModelConfig, TrainingConfig, load_yaml, parse_config
from retrieveall.errors import ConfigError

__all__ = ["Architecture", "DecoderKind", "Preset", "find_preset", "preset_names"]

DecoderKind = Literal["tagging", "generation"]


class _Part(BaseModel):
    """Settings of one decoder, which override the common ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class Preset(BaseModel):
    """One backbone with its settings. ``model`` is a ``retrieveall.yaml`` without labels, ``training`` its training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    architecture: Architecture
    model: dict[str, Any]
    training: dict[str, Any] = Field(default_factory=dict)
    decoders: dict[DecoderKind, _Part]

    def model_settings(self, kind: DecoderKind) -> dict[str, Any]:
        """Plain data for ``ModelConfig``, without labels.

        Raises:
            ConfigError: the file has no settings for this decoder.
        """
        return _merged(self.model, self._part(kind).model, {"decoder": {"kind": kind}})

    def model_config_for(self, kind: DecoderKind, labels: Sequence[LabelConfig]) -> ModelConfig:
        """The settings of a model folder.

        Raises:
            ConfigError: a wrong key or value.
        """
        raw = {**self.model_settings(kind), "labels": [label.model_dump() for label in labels]}
        return parse_config(ModelConfig, raw, self.summary)

    def training_settings(self, kind: DecoderKind) -> dict[str, Any]:
        """Plain data for ``TrainingConfig``.

        Raises:
            ConfigError: as ``model_settings``.
        """
        return _merged(self.training, self._part(kind).training)

    def training_config(self, kind: DecoderKind) -> TrainingConfig:
        """The settings of a training run.

        Raises:
            ConfigError: a wrong key or value.
        """
        return parse_config(TrainingConfig, self.training_settings(kind), self.summary)

    def _part(self, kind: DecoderKind) -> _Part:
        if kind not in self.decoders and self.architecture.is_encoder:
            raise ConfigError(
                f"{self.summary}: an encoder does not write, so its decoder is tagging, got {kind}; "
                "use --decoder tagging, or a causal language model"
            )
        if kind not in self.decoders:
            raise ConfigError(f"{self.summary}: expected settings under decoders.{kind}, found none; add them")
        return self.decoders[kind]


def preset_names() -> tuple[str, ...]:
    """Names of the presets in the package."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def find_preset(name: str | Path) -> Preset | None:
    """The preset of that name, or a user's file of the same form; None for anything else.

    Raises:
        ConfigError: a preset file with an invalid key or value.
    """
    if str(name) in preset_names():
        return load_yaml(Preset, _folder() / f"{name}.yaml")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and _is_preset(path):
        return load_yaml(Preset, path)
    return None


def _is_preset(path: Path) -> bool:
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return False  # the caller reads it as another kind of file and reports the error
    return isinstance(raw, dict) and {"architecture", "decoders"} <= set(raw)


def _folder() -> Path:
    return Path(str(resources.files("retrieveall") / "backbones"))


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; later values override earlier ones."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = merged.get(key)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged
