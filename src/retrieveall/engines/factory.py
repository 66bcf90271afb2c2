"""Creates the engine of a model folder. Torch, httpx and vLLM are imported only by the engine that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retrieveall.config import ModelConfig
from retrieveall.engines.base import Engine
from retrieveall.engines.remote.settings import ServerSettings
from retrieveall.errors import InputError

__all__ = ["EngineName", "open_engine"]

EngineName = Literal["transformers", "openai", "vllm"]


def open_engine(
    config: ModelConfig,
    folder: Path,
    *,
    engine: EngineName | None = None,
    server: str | ServerSettings | None = None,
    device: str | None = None,
) -> Engine:
    """The engine of that name; None: ``"openai"`` if a server is given, else ``"transformers"``.

    Raises:
        InputError: unknown engine, a missing server, or a server for an engine that takes none.
    """
    name = engine or ("transformers" if server is None else "openai")
    if (name == "openai") != (server is not None):
        raise InputError(
            f"expected a server for the engine 'openai' and for no other, got engine {name!r} with {server!r}"
        )
    if device is not None and name != "transformers":
        raise InputError(f"the engine {name!r} takes no device, got {device!r}; leave it out")
    if name == "transformers":
        from retrieveall.engines.local.engine import LocalEngine

        return LocalEngine.open(config, folder, device=device)
    if name == "vllm":
        from retrieveall.engines.vllm import VllmEngine

        return VllmEngine(config, folder)
    if name != "openai" or server is None:
        raise InputError(f"expected one of the engines transformers, openai, vllm, got {name[:80]!r}")
    from retrieveall.engines.remote.openai import OpenAIEngine

    return OpenAIEngine(config, folder, server if isinstance(server, ServerSettings) else ServerSettings(server))
