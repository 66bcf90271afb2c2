"""Settings and data of training runs on a tiny model, and what is left of one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from retrieveall.config import TrainingConfig
from retrieveall.types import Entity, Sentence

CONFIG = TrainingConfig.model_validate(
    {
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
        "epochs": 2,
        "batch_size": 2,
        "learning_rate": 0.01,
        "word_dropout": 0.1,
        "checkpoint_minutes": 0.001,
        "validation_sentences": 4,
    }
)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(folder).items() if name.endswith("adapter_model.safetensors")}


def data_of(corpus: dict[str, list[Sentence]], *languages: str) -> dict[str, Any]:
    from retrieveall.training.run import LanguageData

    return {language: LanguageData(corpus[language], corpus[language][:4]) for language in languages}


def french(count: int) -> list[Sentence]:
    texts = [f"Marie habite à Paris depuis {number} ans ." for number in range(count)]
    return [
        Sentence(text, (Entity(0, 5, "PER", "Marie"), Entity(15, 20, "LOC", "Paris")), "fr", f"fr-{i}")
        for i, text in enumerate(texts)
    ]
