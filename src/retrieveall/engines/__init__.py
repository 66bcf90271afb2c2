"""Who runs the model. The engine that needs torch is imported from its own module, so that this one needs none."""

from __future__ import annotations

from retrieveall.engines.base import Engine, Generated, GenerateRequest, TagRequest
from retrieveall.engines.encoding import EncodedInput, TokenCodec, encode_input
from retrieveall.engines.remote_settings import ServerSettings

__all__ = [
    "EncodedInput",
    "Engine",
    "GenerateRequest",
    "Generated",
    "ServerSettings",
    "TagRequest",
    "TokenCodec",
    "encode_input",
]
