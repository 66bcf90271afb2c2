"""The steps that train: every call of the library's trainer is here."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from recipes.mini.sentences import read_sentences
from recipes.model_home import make_home
from recipes.steps import Files
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.engines.local.packed import PACKED, read_packed, write_packed
from retrieveall.knowledge import KnowledgeBase
from retrieveall.knowledge.encoder import NgramEncoder
from retrieveall.training.parallel import Processes
from retrieveall.training.run import LanguageData, train
from retrieveall.training.tuning import tune_backbone
from retrieveall.types import Sentence

__all__ = ["build_knowledge", "language_data", "mix", "mix_weights", "train_model", "tune", "unpack_backbone"]

_FEW = 20


def build_knowledge(folder: Path, dimension: int, sentences: Path, languages: tuple[str, ...]) -> None:
    """A knowledge folder over the pool, as ``retrieveall index`` writes it."""
    pools = {language: read_sentences(sentences / "pool" / f"{language}.jsonl") for language in sorted(languages)}
    texts = [sentence.text for own in pools.values() for sentence in own]
    KnowledgeBase.build(pools, NgramEncoder.fit(texts, dimension=dimension)).save(folder)


def tune(
    folder: Path,
    settings: TrainingConfig,
    model: ModelConfig,
    backbone: Path,
    sentences: Path,
    languages: tuple[str, ...],
    knowledge: Path | None = None,
    device: str | None = "cpu",
) -> None:
    """``model/backbone``: the encoder tuned for names on all languages together, on prompts as ``model`` has them.

    ``backbone`` is the folder of an earlier tuning, which is gone on from, or of the encoder as it was cut.

    Args:
        device: where to train, as ``train`` takes it.
    """
    tuned = backbone / "model" / "backbone"
    found = KnowledgeBase.open(knowledge) if knowledge is not None else None
    data = {
        language: own if found is not None else LanguageData(own.train, own.validation, own.pool[:_FEW])
        for language, own in language_data(sentences, languages).items()
    }  # the session asks for a pool
    home = folder / "model"
    with Processes.join(device).main_first():
        make_home(home, model, data, tuned if tuned.is_dir() else backbone / "backbone", found)
    tune_backbone(home, data, settings, folder / "run", device=device, show_bar=False)


def mix(folder: Path, share: float, before: Path, after: Path) -> None:
    """``model/backbone``: ``mix_weights`` of the encoders of two tunings."""
    mix_weights(folder / "model" / "backbone", share, *(each / "model" / "backbone" for each in (before, after)))


def mix_weights(target: Path, share: float, before: Path, after: Path) -> None:
    """A backbone whose weights are ``share`` of the way from those of ``before`` to those of ``after``.

    What lies between has forgotten less of what the first knew than the second has (Wortsman et al., "Robust
    fine-tuning of zero-shot models", 2022).
    """
    shutil.copytree(after, target, dirs_exist_ok=True)
    old, new = (load_file(each / "model.safetensors") for each in (before, after))
    mixed = {name: old[name].float().lerp(new[name].float(), share) for name in new}
    save_file(mixed, target / "model.safetensors", {"format": "pt"})


def train_model(
    folder: Path,
    settings: TrainingConfig,
    most: int,
    model: ModelConfig,
    backbone: Path,
    sentences: Path,
    knowledge: Path,
    languages: tuple[str, ...],
    device: str | None = "cpu",
) -> None:
    """``model/``: adapters of all languages over the tuned encoder, their scaling and calibration.

    Args:
        most: sentences of a language that are trained on; all of them stay in the pool.
        device: where to train, as ``train`` takes it.
    """
    data = {
        language: replace(own, train=random.Random(f"{settings.seed} {language}").sample(own.train, most))
        if len(own.train) > most
        else own
        for language, own in language_data(sentences, languages).items()
    }
    home = folder / "model"
    with Processes.join(device).main_first():
        _pack(backbone / "model" / "backbone", folder / "backbone")  # adapters are trained on what is shipped
        make_home(home, model, data, folder / "backbone", KnowledgeBase.open(knowledge))
    train(home, data, settings, folder / "run", device=device, show_bar=False)


def unpack_backbone(folder: Path, backbone: Files) -> None:
    """``model/backbone``: a shipped backbone as a tuning leaves it, in float32."""
    target = folder / "model" / "backbone"
    target.mkdir(parents=True, exist_ok=True)
    save_file(read_packed(backbone.folder), target / "model.safetensors", {"format": "pt"})
    for path in backbone.folder.glob("*.json"):
        shutil.copyfile(path, target / path.name)


def _pack(source: Path, target: Path) -> None:
    """The backbone in four and eight bits a number, and its other files."""
    target.mkdir(parents=True, exist_ok=True)
    write_packed(load_file(source / "model.safetensors"), target / PACKED)
    for path in source.glob("*.json"):
        shutil.copyfile(path, target / path.name)


def language_data(sentences: Path, languages: Iterable[str]) -> dict[str, LanguageData]:
    """What ``write_sentences`` wrote to the folder ``sentences``, by language."""

    def read(name: str, language: str) -> list[Sentence]:
        return read_sentences(sentences / name / f"{language}.jsonl")

    return {each: LanguageData(*(read(name, each) for name in ("train", "validation", "pool"))) for each in languages}
