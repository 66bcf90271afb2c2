"""The steps that train the backbone: masked words, then names on PAN-X."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from recipes.mini.masked_words import MaskedBatches, MaskedWords, create_backbone, drawn_as_candidates
from recipes.mini.sentences import language_data
from recipes.mini.settings import BackboneSettings, MaskedWordsSettings, TuningSettings
from recipes.mini.tokenizer import open_tokenizer
from recipes.model_home import make_home
from retrieveall.config import ModelConfig
from retrieveall.knowledge import KnowledgeBase
from retrieveall.training.loop import fit
from retrieveall.training.loss import compile_backbone
from retrieveall.training.run import LanguageData
from retrieveall.training.tuning import parameter_groups, tune_backbone

__all__ = ["half_precision", "reuse_examples", "train_masked_words", "tune"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def train_masked_words(
    folder: Path, shape: BackboneSettings, settings: MaskedWordsSettings, text: Path, vectors: Path, tokenizer: Path
) -> None:
    """``backbone/``, a Hugging Face folder."""
    arrays = load_arrays(text / "text.safetensors")
    drawn = drawn_as_candidates(arrays["ids"], open_tokenizer(tokenizer).get_vocab_size())
    backbone = create_backbone(shape, vectors, len(drawn), settings.seed)
    if settings.compile:
        compile_backbone(backbone)
    module = MaskedWords(backbone, drawn, settings.candidates)
    batches = MaskedBatches(arrays, drawn, settings)
    groups = parameter_groups(backbone, settings.learning_rate, settings.embedding_rate)
    fit(module, batches, settings, folder / "run", groups=groups, show_bar=False)
    backbone.save_pretrained(folder / "backbone")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / "backbone" / name)


def tune(
    folder: Path, settings: TuningSettings, backbone: Path, model: ModelConfig, knowledge: Path, **data: Any
) -> None:
    """``backbone/``: the one of the step before, all of its weights tuned on the prompts of all languages."""
    prompt = model.prompt.model_copy(update={"context_examples": settings.context_examples})
    model = model.model_copy(update={"prompt": prompt})
    sentences = language_data(**data)
    home = _model_folder(folder, model, sentences, backbone / "backbone", knowledge)
    reuse_examples(backbone, folder)
    tune_backbone(home, sentences, settings, folder / "run", show_bar=False)
    shutil.copytree(home / "backbone", folder / "backbone", dirs_exist_ok=True)


def _model_folder(
    folder: Path, model: ModelConfig, data: Mapping[str, LanguageData], backbone: Path, knowledge: Path
) -> Path:
    """A model folder without adapters, or the one that an interrupted run left."""
    home = folder / "model"
    make_home(home, model, data, backbone, KnowledgeBase.open(knowledge))
    return home


def reuse_examples(before: Path, folder: Path) -> None:
    """Begin with the training examples of the step before; those that were made for other prompts are made anew."""
    source, target = before / "run" / "examples", folder / "run" / "examples"
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target)


def half_precision(source: Path, target: Path) -> None:
    """The backbone in bfloat16 on disk, half the size: adapters are trained on what is shipped."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"dtype": "bfloat16"}
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)
