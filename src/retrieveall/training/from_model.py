"""A new model after an existing one: its backbone and all settings that suit it, with labels of one's own.

The tags of new labels take over the tag tokens of the labels that are left out: the backbone knows already how a
mention begins and ends, and only has to learn which mentions are meant. Labels of the same name keep their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieveall.adapters import AdapterPool
from retrieveall.config import LabelConfig, LoraSettings, ModelConfig, TaggingConfig, TrainingConfig
from retrieveall.model_folder import ModelFolder

__all__ = ["local_backbone", "settings_from", "training_from"]

_POSITIONS = "BIES"


def settings_from(model: ModelFolder, name: str, labels: Sequence[str]) -> ModelConfig:
    """The settings of a new model called ``name`` with ``labels`` and the backbone of ``model``."""
    known = {label.name: label for label in model.config.labels}
    changes: dict[str, object] = {
        "name": name,
        "labels": tuple(known.get(label) or LabelConfig(name=label) for label in labels),
        "sentence_threshold": 0.0,  # chosen for the scores of an adapter that has seen many sentences without names
    }
    decoder = model.config.decoder
    if isinstance(decoder, TaggingConfig):
        tokens = _tag_tokens(decoder.tag_tokens, list(known), labels)
        changes["decoder"] = decoder.model_copy(update={"tag_tokens": tokens, "temperature": 1.0})
    if not set(labels) <= set(known):
        # The bare backbone knows nothing of new labels, so that no text may be left to it.
        changes["routing"] = model.config.routing.model_copy(update={"unknown": None})
    return model.config.model_copy(update=changes)


def _tag_tokens(tokens: dict[str, str], known: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Tag tokens of ``labels``, as far as ``tokens`` suffice."""
    free = [label for label in known if label not in labels]
    source = {label: label if label in known else free.pop(0) for label in labels if label in known or free}
    pairs = [(f"{p}-{label}", f"{p}-{old}") for label, old in source.items() for p in _POSITIONS]
    return {new: tokens[old] for new, old in [("O", "O"), *pairs] if old in tokens}


def training_from(model: ModelFolder, config: TrainingConfig) -> TrainingConfig:
    """``config`` with the LoRA shape of the model's own adapters, where it sets none."""
    pool = AdapterPool(model.path)
    languages = pool.languages()
    if "lora" in config.model_fields_set or not languages:
        return config
    shape = pool.load(languages[0]).shape
    lora = LoraSettings(rank=shape.rank, alpha=shape.alpha, use_rslora=shape.use_rslora)
    return config.model_copy(update={"lora": lora})


def local_backbone(model: ModelFolder) -> Path | None:
    """The folder of the model's backbone; None for a hub id."""
    path = model.path / model.config.backbone.path
    return path if path.is_dir() else None
