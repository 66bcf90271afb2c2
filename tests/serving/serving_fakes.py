"""A model that computes nothing and can be held back, and a real server around any model."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from retrieveall.config import LabelConfig, ModelConfig
from retrieveall.errors import EngineError, InputError
from retrieveall.serving.app import create_app
from retrieveall.serving.service import Service
from retrieveall.serving.settings import ServiceSettings
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Prediction, Route, Sentence

_NAME = re.compile(r"\w+")


class FakeKnowledge:
    languages = ("de", "en")

    def sentences(self, language: str) -> list[str]:
        return ["a sentence"] * 3


class FakeModel:
    """Every word that begins with a capital or Han letter is a person. Texts may be held back or cost time.

    The text "unknown" is in no language.

    ``computed`` are the texts that were computed, ``batches`` their numbers.
    """

    labels = ("PER", "LOC")

    def __init__(self, languages: Sequence[str] = ("de", "en"), seconds: float = 0.0, held: bool = False) -> None:
        self.languages = tuple(languages)
        self.config = ModelConfig(name="fake", labels=tuple(LabelConfig(name=name) for name in self.labels))
        self.knowledge = FakeKnowledge()
        self.seconds = seconds  # a batch
        self.computed: list[str] = []
        self.batches: list[int] = []
        self.go = threading.Event()
        self.entered = threading.Event()
        if not held:
            self.go.set()

    def predict(
        self,
        texts: Sequence[str],
        *,
        language: Sequence[str | None],
        threshold: float | None = None,
        levels: Collection[str] = (),
        keep_prompts: bool = False,
    ) -> list[Prediction]:
        self.entered.set()
        assert self.go.wait(120)
        time.sleep(self.seconds)
        if "poison" in texts:
            raise InputError("a text that the model refuses")
        if "bug" in texts:
            raise ZeroDivisionError("Geheimnis von Karl")
        self.batches.append(len(texts))
        self.computed += texts
        found: list[Any] = [
            _prediction(text, name, levels, keep_prompts) for text, name in zip(texts, language, strict=True)
        ]
        failures = {number: "engine down" for number, text in enumerate(texts) if text == "engine"}
        if failures:
            raise EngineError.of_items(failures, [None if i in failures else each for i, each in enumerate(found)])
        return found


def _prediction(text: str, language: str | None, levels: Collection[str], keep_prompts: bool) -> Prediction:
    names = [match for match in _NAME.finditer(text) if match[0][0].isupper() or not match[0][0].isascii()]
    entities = tuple(Entity(match.start(), match.end(), "PER", match[0], 0.9) for match in names)
    name = language or ("de" if "ü" in text else "en")
    gold = Entity(0, 4, "PER", "Anna", None)
    knowledge = Knowledge(
        (Neighbour(Sentence("Anna war da.", (gold,), "de", "de:1"), 0.5),),
        (KnownEntity(0, 1, text[:1] or "x", {"de": {"PER": 2}}),),
    )
    prompts = (f"{' '.join(sorted(levels))} | {text}",) if keep_prompts else ()
    route = Route({name: 1.0}, {"de": 0.25, "en": 0.75}, "fixed" if language else "vote")
    if text == "unknown":
        route = Route({}, {}, "unknown")
    return Prediction(text, entities, route, knowledge, prompts=prompts)


@contextmanager
def live(model: Any, settings: ServiceSettings | None = None) -> Iterator[tuple[str, Service]]:
    """The address and the service of a running server."""
    app = create_app(model, settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.service
    finally:
        server.should_exit = True
        thread.join(20)


def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
