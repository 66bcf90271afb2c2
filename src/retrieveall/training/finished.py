"""Whether a run has ended already: adapter cards say on what, with what and in what model they were trained.

The same data, settings and model give the same weights, so there is nothing to gain from training them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieveall.adapters import AdapterPool
from retrieveall.config import TrainingConfig
from retrieveall.model_folder import ADAPTERS, ModelFolder
from retrieveall.storage import Manifest
from retrieveall.training.data import LanguageData, digest, in_language
from retrieveall.types import Sentence

__all__ = ["added", "model_key", "run_key", "trained"]


def run_key(
    config: TrainingConfig, train: Mapping[str, Sequence[Sentence]], held_out: Mapping[str, Sequence[Sentence]]
) -> str:
    """What is trained on and how: settings, and sentences of every language."""
    parts = [json.dumps(config.identity(changed=True))]  # a setting that a later version adds changes nothing
    parts += [f"{name} {digest(train[name])} {digest(held_out[name])}" for name in sorted(train)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def model_key(folder: Path) -> str:
    """What an adapter depends on in its model: all files but the adapters."""
    files = Manifest.load(folder).files.items()
    rest = sorted((name, record.sha256) for name, record in files if not name.startswith(f"{ADAPTERS}/"))
    return hashlib.sha256(repr(rest).encode()).hexdigest()


def trained(folder: Path, data: Mapping[str, LanguageData], config: TrainingConfig) -> dict[str, float | None] | None:
    """The validation F1 of each language, if a run with this data and these settings trained the model as it is now.

    Args:
        config: with everything that depends on the data, as the run itself has it.
    """
    model = ModelFolder.open(folder, verify=False)
    if not set(data) <= set(model.languages()):
        return None
    pool, key, place = AdapterPool(model.path), _key_of(config, data), model_key(model.path)
    cards = {language: pool.card(language) for language in sorted(data)}
    if any((card.data.get("run"), card.data.get("model")) != (key, place) for card in cards.values()):
        return None
    return {language: card.scores.get("validation_f1") for language, card in cards.items()}


def added(folder: Path, language: str, data: LanguageData, config: TrainingConfig) -> bool:
    """Whether a run with this data and these settings has added the language, whatever was done to others since."""
    model = ModelFolder.open(folder, verify=False)
    card = AdapterPool(model.path).card(language) if language in model.languages() else None
    return card is not None and card.data.get("run") == _key_of(config, {language: data})


def _key_of(config: TrainingConfig, data: Mapping[str, LanguageData]) -> str:
    train = {language: in_language(of.train, language) for language, of in data.items()}
    return run_key(config, train, {language: in_language(of.validation, language) for language, of in data.items()})
