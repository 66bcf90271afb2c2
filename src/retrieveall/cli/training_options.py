"""Training settings from the command line: a YAML file or a backbone's name, and single overrides."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from retrieveall.cli import completion

if TYPE_CHECKING:
    from retrieveall.backbones import DecoderKind
    from retrieveall.config import TrainingConfig
    from retrieveall.types import Sentence

__all__ = [
    "Config",
    "Decoder",
    "DecoderName",
    "RunFolder",
    "Set",
    "few",
    "kind_of",
    "read_model_settings",
    "read_training",
    "sizes",
    "yaml_value",
]


class DecoderName(StrEnum):
    """How a model's states become entities."""

    tagging = "tagging"
    generation = "generation"


_FEW = 50  # sentences, or entities, of a language
_TEMPLATES = {DecoderName.tagging: "plain.v1", DecoderName.generation: "answer.v1"}

Config: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE|NAME",
        help="The training settings as YAML, or those of a backbone: llama-3-8b, llama-3-8b-instruct, qwen2.5-7b, "
        "qwen2.5-14b, xlm-roberta-base, xlm-roberta-large, multilingual-e5-small.",
        autocompletion=completion.presets,
    ),
]
Decoder: TypeAlias = Annotated[
    DecoderName | None,
    typer.Option(help="For a new model: tagging in one forward pass (default), or generation."),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a training setting, such as epochs=2 or lora.rank=8; repeatable.",
        autocompletion=completion.keys,
    ),
]
RunFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        file_okay=False,
        help="Folder to keep checkpoints in; by default beside the model and deleted when the run is complete.",
    ),
]


def kind_of(model: str | Path | None, decoder: DecoderName | None = None) -> DecoderKind:
    """The decoder of the run: of an existing model, else as requested, else tagging."""
    from retrieveall.config import ModelConfig, load_yaml
    from retrieveall.model_folder import SETTINGS, shipped_models

    if model is not None:
        settings = shipped_models().get(str(model), Path(model)) / SETTINGS
        if settings.is_file():
            return load_yaml(ModelConfig, settings).decoder.kind
    return (decoder or DecoderName.tagging).value


def read_model_settings(config: str | None, decoder: DecoderName | None) -> dict[str, Any]:
    """The settings that ``--config`` with a backbone's name and ``--decoder`` give a new model, as plain data.

    Raises:
        ConfigError: an invalid key or value in a settings file.
    """
    from retrieveall.backbones import find_preset

    preset = find_preset(config) if config is not None else None
    if preset is not None:
        return preset.model_settings(kind_of(None, decoder))
    if decoder is None:
        return {}
    return {"decoder": {"kind": decoder.value}, "prompt": {"template": _TEMPLATES[decoder]}}


def read_training(path: str | Path | None, changes: list[str] | None, kind: DecoderKind = "tagging") -> TrainingConfig:
    """The training settings: defaults, then the file, then ``key=value`` in order, the values as in YAML.

    ``path`` may be the name of a backbone or a file of that form; ``kind`` then selects the decoder.

    Raises:
        ConfigError: an unknown key, an invalid value, a file that is not YAML; names the file or option.
        typer.BadParameter: a change that is not ``key=value``.
    """
    from retrieveall.backbones import find_preset, preset_names
    from retrieveall.config import TrainingConfig, load_yaml, parse_config
    from retrieveall.errors import ConfigError

    raw: dict[str, Any] = {}
    if path is not None:
        preset = find_preset(path)
        if preset is None and Path(path).suffix == "" and not Path(path).exists():
            raise ConfigError(
                f"expected --config as a YAML file or one of {', '.join(preset_names())}, got {str(path)[:80]!r}"
            )
        raw = (
            preset.training_settings(kind)
            if preset is not None
            else load_yaml(TrainingConfig, Path(path)).model_dump(exclude_unset=True)
        )
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"expected KEY=VALUE, got {change[:80]!r}", param_hint="--set")
        _put(raw, key.split("."), yaml_value(value))
    return parse_config(TrainingConfig, raw, "--set" if changes else str(path or "the training settings"))


def _put(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = raw.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = raw[key] = {}
        raw = inner
    raw[keys[-1]] = value


def yaml_value(text: str) -> Any:
    """The value of a ``--set KEY=VALUE``, as in YAML.

    Raises:
        typer.BadParameter: not YAML.
    """
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise typer.BadParameter(f"expected a YAML value, got {text[:80]!r}", param_hint="--set") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def few(train: Sequence[Sentence]) -> bool:
    """Whether a language has hardly enough sentences or entities to learn from."""
    return len(train) < _FEW or sum(len(sentence.entities) for sentence in train) < _FEW


def sizes(train: Sequence[Sentence]) -> str:
    """The numbers of sentences and entities, for a message."""
    entities = sum(len(sentence.entities) for sentence in train)
    return f"{_counted(len(train), 'sentence', 'sentences')} with {_counted(entities, 'entity', 'entities')}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
