"""The model folder of a step that trains: made once, and found again by a step that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from retrieveall.config import ModelConfig
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import SETTINGS
from retrieveall.training.run import LanguageData, create_model

__all__ = ["make_home"]


def make_home(
    home: Path, model: ModelConfig, data: Mapping[str, LanguageData], backbone: Path, knowledge: KnowledgeBase | None
) -> None:
    """A model folder without adapters at ``home``, unless an interrupted run left one."""
    if not (home / SETTINGS).is_file():
        shutil.rmtree(home, ignore_errors=True)  # what was begun
        create_model(home, model, data, backbone=backbone, knowledge=knowledge)
