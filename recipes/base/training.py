"""The steps that train: every call of the library's trainer is here."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file

from recipes.base.settings import AdapterSettings
from recipes.mini.sentences import read_sentences
from recipes.model_home import make_home
from retrieveall.config import ModelConfig, TrainingConfig, dump_yaml, load_yaml
from retrieveall.engines.local.packed import PACKED, write_packed
from retrieveall.knowledge import KnowledgeBase
from retrieveall.knowledge.encoder import NgramEncoder
from retrieveall.model_folder import SETTINGS
from retrieveall.storage import Transaction
from retrieveall.training.parallel import Processes
from retrieveall.training.run import LanguageData, train
from retrieveall.training.tuning import tune_backbone
from retrieveall.types import Sentence

__all__ = ["build_knowledge", "train_model", "tune"]

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
) -> None:
    """``model/backbone``: the encoder tuned for names on all languages together, on prompts as ``model`` has them."""
    data = {}
    for language in languages:
        own = _language_data(sentences, language)
        data[language] = LanguageData(own.train, own.validation, own.pool[:_FEW])  # the session asks for a pool
    home = folder / "model"
    with Processes.join("cpu").main_first():
        make_home(home, model, data, backbone / "backbone", None)
    tune_backbone(home, data, settings, folder / "run", device="cpu", show_bar=False)


def train_model(
    folder: Path,
    settings: AdapterSettings,
    model: ModelConfig,
    backbone: Path,
    sentences: Path,
    knowledge: Path,
    languages: tuple[str, ...],
) -> None:
    """``model/``: adapters of all languages over the tuned encoder, their scaling and calibration."""
    data = {language: _language_data(sentences, language) for language in languages}
    home = folder / "model"
    with Processes.join("cpu").main_first():
        _pack(backbone / "model" / "backbone", folder / "backbone")  # adapters are trained on what is shipped
        make_home(home, model, data, folder / "backbone", KnowledgeBase.open(knowledge))
    train(home, data, settings, folder / "run", device="cpu", show_bar=False)
    processes = Processes.join("cpu")
    with processes.main_first():
        if processes.main:
            show_context_examples(home, settings.context_examples_in_use)


def show_context_examples(home: Path, number: int) -> None:
    """Set how many context examples the prompts of a finished model hold."""
    config = load_yaml(ModelConfig, home / SETTINGS)
    prompt = config.prompt.model_copy(update={"context_examples": number})
    with Transaction(home) as transaction:
        settings = dump_yaml(config.model_copy(update={"prompt": prompt}))
        transaction.path(SETTINGS).write_text(settings, encoding="utf-8")


def _pack(source: Path, target: Path) -> None:
    """The backbone in four and eight bits a number, and its other files."""
    target.mkdir(parents=True, exist_ok=True)
    write_packed(load_file(source / "model.safetensors"), target / PACKED)
    for path in source.glob("*.json"):
        shutil.copyfile(path, target / path.name)


def _language_data(sentences: Path, language: str) -> LanguageData:
    def read(name: str) -> list[Sentence]:
        return read_sentences(sentences / name / f"{language}.jsonl")

    return LanguageData(read("train"), read("validation"), read("pool"))
