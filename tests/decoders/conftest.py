"""Decoders without a model: settings with the stages and the decoder that follow from them, over the tiny tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from retrieveall.config import (
    GenerationConfig,
    LabelConfig,
    ModelConfig,
    PromptConfig,
    TaggingConfig,
    WindowConfig,
)
from retrieveall.decoders import Decoder, Reading, Target, complete_config, gold_of, make_decoder
from retrieveall.prompts import Prompt
from retrieveall.stages import Stages, Window
from retrieveall.tokens import TokenCodec
from retrieveall.types import Entity, Route
from tiny import codec_of

LABELS = ("PER", "ORG", "LOC")
SETTINGS: dict[str, TaggingConfig | GenerationConfig] = {
    "full": TaggingConfig(attention="full", spacing="always"),
    "repeat": TaggingConfig(attention="repeat"),
    "generation": GenerationConfig(max_answer_tokens=512),
}
TEMPLATES = {"full": "mini.v1", "repeat": "plain.v1", "generation": "answer.v1"}


@dataclass
class Setting:
    """A model's settings with what follows from them."""

    config: ModelConfig
    codec: TokenCodec
    decoder: Decoder
    stages: Stages

    def prepared(self, texts: Sequence[str]) -> tuple[list[Window], list[Prompt], list[Route]]:
        windows = self.stages.window(texts)
        knowledge = self.stages.retrieve(windows)
        return windows, self.stages.prompt(windows, knowledge), self.stages.route(windows, knowledge)

    def targets(
        self, windows: Sequence[Window], prompts: Sequence[Prompt], gold: Sequence[list[Entity]]
    ) -> list[Target]:
        """The target of each window; ``gold`` holds the entities of each text."""
        return [
            self.decoder.target(window, prompt, gold_of(window, gold[window.document]))
            for window, prompt in zip(windows, prompts, strict=True)
        ]

    def entities(self, engine: Any, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        """What the decoder finds in each text."""
        windows, prompts, routes = self.prepared(texts)
        found: list[list[tuple[int, int, str]]] = [[] for _ in texts]
        for window, reading in zip(windows, self.decoder.decode(engine, windows, prompts, routes), strict=True):
            assert isinstance(reading, Reading)
            found[window.document] += [span[:3] for span in reading.spans]
        return found


@pytest.fixture(scope="session")
def make_setting(tiny_tokenizer: Any) -> Callable[..., Setting]:
    """``make_setting(kind, words=24, overlap=6)``; ``kind`` is one of ``SETTINGS``."""

    def make(kind: str, words: int = 24, overlap: int = 6) -> Setting:
        codec = codec_of(tiny_tokenizer, SETTINGS[kind].spacing)
        config = ModelConfig(
            labels=tuple(LabelConfig(name=name) for name in LABELS),
            prompt=PromptConfig(template=TEMPLATES[kind], max_tokens=20_000),
            windows=WindowConfig(words=words, overlap=overlap),
            decoder=SETTINGS[kind],
        )
        config = complete_config(config, codec)
        return Setting(config, codec, make_decoder(config, codec), Stages(config, None, codec))

    return make
