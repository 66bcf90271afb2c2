"""Which engine runs a model folder. Torch, httpx and vLLM are imported only by the engine that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from retrieveall.config import ModelConfig
from retrieveall.engines.base import Engine
from retrieveall.engines.remote_settings import ServerSettings
from retrieveall.errors import EngineError, InputError

__all__ = ["EngineName", "FinishedEngine", "open_engine"]

EngineName = Literal["transformers", "openai", "vllm"]


def open_engine(
    config: ModelConfig,
    folder: Path,
    *,
    engine: EngineName | None = None,
    server: str | ServerSettings | None = None,
    device: str | None = None,
) -> Engine:
    """The engine of that name; ``"openai"`` where a server is given, else ``"transformers"``, if None.

    Raises:
        InputError: no such engine, a server for an engine that needs none, or none for one that does.
    """
    name = engine or ("transformers" if server is None else "openai")
    if (name == "openai") != (server is not None):
        raise InputError(
            f"the engine 'openai' needs a server and no other takes one, got engine {name!r} with {server!r}"
        )
    if device is not None and name != "transformers":
        raise InputError(f"the engine {name!r} takes no device, got {device!r}; leave it out")
    if name == "transformers":
        from retrieveall.engines.transformers import TransformersEngine

        return TransformersEngine(config, folder, device=device)
    if name == "vllm":
        from retrieveall.engines.vllm import VllmEngine

        return VllmEngine(config, folder)
    if name != "openai" or server is None:
        raise InputError(f"expected an engine of transformers, openai and vllm, got {name[:80]!r}")
    from retrieveall.engines.openai import OpenAIEngine

    return OpenAIEngine(config, folder, server if isinstance(server, ServerSettings) else ServerSettings(server))


class FinishedEngine:
    """Stands in for an engine that has finished some requests: gives their results, whatever is asked.

    ``sizes`` is the number of requests of each text. ``whole`` are the texts of which no request failed, and
    ``failures`` says of the others what went wrong.
    """

    def __init__(self, error: EngineError, sizes: Sequence[int]) -> None:
        self.failures: dict[int, str] = {}
        self.whole: list[int] = []
        self._results: list[Any] = []
        first = 0
        for text, size in enumerate(sizes):
            wrong = [number for number in range(first, first + size) if number in error.failures]
            if wrong:
                self.failures[text] = error.failures[wrong[0]]
            else:
                self.whole.append(text)
                self._results += error.results[first : first + size]
            first += size

    def tag(self, requests: Sequence[Any]) -> list[Any]:
        return self._results

    generate = tag
