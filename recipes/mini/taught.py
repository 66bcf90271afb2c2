"""The steps in which the small model learns from a teacher and from running text, and gets its adapters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from recipes.base.corpora import Corpora
from recipes.base.sentences import write_sentences
from recipes.base.settings import CorpusSettings
from recipes.base.settings import SentencesSettings as MadeSettings
from recipes.base.training import language_data, mix_weights
from recipes.mini.teacher import Teacher
from recipes.mini.training import half_precision, reuse_examples
from recipes.model_home import make_home
from recipes.steps import Files
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import KNOWLEDGE
from retrieveall.training.run import LanguageData, train
from retrieveall.training.tuning import tune_backbone

__all__ = ["copy_backbone", "mix_backbones", "train_taught_model", "tune_taught", "write_taught_sentences"]


def copy_backbone(folder: Path, backbone: Files) -> None:
    """``backbone/``: one that is gone on from, such as that of the shipped model."""
    (folder / "backbone").mkdir(exist_ok=True)
    for name in backbone.names:
        shutil.copyfile(backbone.folder / name, folder / "backbone" / name)


def write_taught_sentences(
    folder: Path,
    settings: MadeSettings,
    corpora: CorpusSettings,
    data: Corpora,
    negatives: Path,
    labels: Path,
    words: Files,
) -> None:
    """``train/``, ``pool/`` and ``validation/LANGUAGE.jsonl``: gold sentences, the teacher's, and texts made by rule.

    Those with names are joined with sentences without any only: of a text that is joined, only the sentence whose id
    it keeps is left out of what is retrieved. ``words`` are read by the writer itself, and are here for the step's key.
    """
    write_sentences(folder, settings, corpora, data, negatives, plain_text=labels, joined_with_names=False)


def tune_taught(
    folder: Path,
    settings: TrainingConfig,
    model: ModelConfig,
    backbone: Path,
    sentences: Path,
    teacher: Teacher,
    languages: tuple[str, ...],
) -> None:
    """``backbone/``: all weights tuned on these sentences, with what is retrieved from the teacher's knowledge."""
    data = language_data(sentences, languages)
    home = _home(folder, model, backbone / "backbone", data, teacher)
    tune_backbone(home, data, settings, folder / "run", device="cpu", show_bar=False)
    shutil.copytree(home / "backbone", folder / "backbone", dirs_exist_ok=True)


def mix_backbones(folder: Path, share: float, before: Path, after: Path) -> None:
    """``backbone/``: ``mix_weights`` of two steps."""
    mix_weights(folder / "backbone", share, before / "backbone", after / "backbone")
    reuse_examples(after, folder)


def train_taught_model(
    folder: Path,
    settings: TrainingConfig,
    model: ModelConfig,
    backbone: Path,
    sentences: Path,
    teacher: Teacher,
    languages: tuple[str, ...],
) -> None:
    """``model/``, the finished model folder: adapters of all languages, their scaling and calibration."""
    half_precision(backbone / "backbone", folder / "backbone")
    data = language_data(sentences, languages)
    home = _home(folder, model, folder / "backbone", data, teacher)
    reuse_examples(backbone, folder)
    train(home, data, settings, folder / "run", device="cpu", show_bar=False)


def _home(folder: Path, model: ModelConfig, backbone: Path, data: Mapping[str, LanguageData], teacher: Teacher) -> Path:
    """A model folder without adapters, whose knowledge is the teacher's."""
    home = folder / "model"
    knowledge = KnowledgeBase.open(teacher.folder / KNOWLEDGE)
    make_home(home, model, data, backbone, knowledge)
    return home
