"""Plain text labelled by the tuned encoder itself, for languages that have little or no labelled running text."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from recipes.base.settings import PlainTextSettings
from recipes.corpora import Lines
from recipes.mini.plain_text import random_sentences
from recipes.mini.sentences import read_sentences
from retrieveall.config import ModelConfig
from retrieveall.data import write_jsonl
from retrieveall.pipeline import RetrieveAll
from retrieveall.training.run import LanguageData, create_model
from retrieveall.types import Sentence

__all__ = ["label_plain_text"]

_BATCH = 256
_FEW = 20


def label_plain_text(
    folder: Path, settings: PlainTextSettings, model: ModelConfig, backbone: Path, sentences: Path, text: Lines
) -> None:
    """``LANGUAGE.jsonl``: sentences whose names the tuned encoder is all sure of, and some in which it finds none."""
    few: dict[str, LanguageData] = {
        language: LanguageData(read_sentences(sentences / "pool" / f"{language}.jsonl")[:_FEW])
        for language in settings.languages
    }
    home = folder / "model"
    shutil.rmtree(home, ignore_errors=True)
    create_model(home, model, few, backbone=backbone / "model" / "backbone")
    tagger = RetrieveAll.from_pretrained(home, device="cpu", allow_no_adapters=True)
    for language in settings.languages:
        rng = random.Random(f"{settings.seed} {language}")
        found = list(_sure(tagger, settings, random_sentences(text, language, rng), rng))
        found = [
            Sentence(each.text, each.entities, language, f"plain-text:{number}") for number, each in enumerate(found)
        ]
        write_jsonl(found, folder / f"{language}.jsonl")
        print(f"{language}: {len(found):,} sentences, {sum(len(each.entities) for each in found):,} names", flush=True)
    shutil.rmtree(home)


def _sure(
    tagger: RetrieveAll, settings: PlainTextSettings, candidates: Iterator[str], rng: random.Random
) -> Iterator[Sentence]:
    kept = read = 0
    while kept < settings.sentences and read < settings.most_read:
        batch = [each for each, _ in zip(candidates, range(_BATCH), strict=False)]
        if not batch:
            return
        read += len(batch)
        for prediction in tagger.predict(batch):
            sure = all((entity.score or 0.0) >= settings.least for entity in prediction.entities)
            if sure and kept < settings.sentences and (prediction.entities or rng.random() < settings.without_names):
                kept += 1
                yield Sentence(prediction.text, prediction.entities)
