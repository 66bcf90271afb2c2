"""What tests of several folders make of the tiny tokenizers and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieveall.config import Spacing
from retrieveall.engines import Failure
from retrieveall.tokens import TokenCodec, Tokenizer
from retrieveall.types import Route

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.prompts import Prompt
    from retrieveall.stages import Window

__all__ = ["Flaky", "Recorder", "codec_of", "prepared", "probabilities", "requests_of", "tokenizer_of"]


def tokenizer_of(fast: Any) -> Tokenizer:
    """A tokenizer of transformers as the library's own, with the same backend."""
    ids = {kind: getattr(fast, f"{kind}_token_id") for kind in ("bos", "eos", "pad", "mask")}
    return Tokenizer(fast.backend_tokenizer, fast.name_or_path, chat_template=fast.chat_template, **ids)


def codec_of(fast: Any, spacing: Spacing = "as_is") -> TokenCodec:
    """The codec of a tokenizer of transformers."""
    return TokenCodec(tokenizer_of(fast), spacing)


class Recorder:
    """An engine that runs nothing: it keeps the requests, and every one of them fails."""

    def __init__(self, codec: TokenCodec) -> None:
        self.codec = codec
        self.requests: list[Any] = []

    def score(self, requests: Sequence[Any]) -> list[Failure]:
        self.requests += requests
        return [Failure("not run") for _ in requests]

    write = score

    unforkable = None

    def refresh(self) -> None: ...

    def close(self) -> None: ...


class Flaky:
    """An engine of which some requests fail, by number; ``failing`` may be changed."""

    def __init__(self, engine: Any, failing: set[int]) -> None:
        self.codec = engine.codec
        self._engine, self.failing = engine, failing

    def score(self, requests: Sequence[Any]) -> list[Any]:
        return self._spoilt(self._engine.score(requests))

    def write(self, requests: Sequence[Any]) -> list[Any]:
        return self._spoilt(self._engine.write(requests))

    def _spoilt(self, results: Sequence[Any]) -> list[Any]:
        return [Failure(f"no {i}") if i in self.failing else each for i, each in enumerate(results)]

    unforkable = None

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def prepared(
    model: RetrieveAll, texts: Sequence[str], adapters: Sequence[Mapping[str, float]] | str | None = None
) -> tuple[list[Window], list[Prompt], list[Route]]:
    """Windows, prompts and routes of texts, as ``predict`` makes them; ``adapters`` go to the windows in turn."""
    windows = model.stages.window(texts)
    knowledge = model.stages.retrieve(windows)
    routes = model.stages.route(windows, knowledge)
    if isinstance(adapters, str):
        adapters = [{adapters: 1.0}]
    if adapters is not None:
        routes = [Route(adapters[number % len(adapters)], reason="fixed") for number in range(len(windows))]
    return windows, model.stages.prompt(windows, knowledge), routes


def requests_of(
    model: RetrieveAll, texts: Sequence[str], adapters: Sequence[Mapping[str, float]] | str | None = None
) -> list[Any]:
    """What the decoder of a model asks an engine about texts, one request a window; see ``prepared``."""
    recorder = Recorder(model.engine.codec)
    model.decoder.decode(recorder, *prepared(model, texts, adapters))
    return recorder.requests


def probabilities(scores: Any) -> Any:
    """Scores of an engine [positions, candidates] as probabilities."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
