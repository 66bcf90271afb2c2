"""Settings of a server that runs the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from retrieveall.arguments import server_url
from retrieveall.errors import InputError

__all__ = ["API_KEY_VARIABLE", "Guidance", "ServerSettings"]

API_KEY_VARIABLE = "RETRIEVEALL_API_KEY"
_LANGUAGE = "{language}"

Guidance = Literal["auto", "structured_outputs", "guided_grammar", "ebnf", "off"]
"""The request field for a grammar; "auto" detects the server."""


@dataclass(frozen=True)
class ServerSettings:
    """A server with the OpenAI completions API.

    ``url`` is its address with or without ``/v1`` and ``http://``, such as ``localhost:8000``. ``model`` is the
    backbone's name there, optional if the server has only one. ``adapters`` maps languages to adapter names on the
    server, or is a pattern such as ``"ner-{language}"``. ``api_key`` is read from the environment variable
    ``RETRIEVEALL_API_KEY`` if None, is sent to this server only, and is never printed.

    ``concurrency`` requests run at once. A request may take ``timeout`` seconds from the first byte sent to the last
    byte read, and is retried up to ``retries`` times after transient errors. A response has at most ``max_bytes``.

    Raises:
        InputError: an invalid address, one with a password, or a number out of range.
    """

    url: str
    model: str | None = None
    adapters: Mapping[str, str] | str = _LANGUAGE
    api_key: str | None = field(default=None, repr=False)
    guidance: Guidance = "auto"
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 4
    max_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", server_url(self.url, f"use api_key or {API_KEY_VARIABLE}"))
        if isinstance(self.adapters, str) and _LANGUAGE not in self.adapters:
            raise InputError(
                f"expected adapters as a mapping or a pattern with {_LANGUAGE}, got {self.adapters[:80]!r}"
            )
        if self.concurrency < 1 or self.retries < 0 or not 0 < self.timeout < 1e6 or self.max_bytes < 1:
            raise InputError(
                "expected concurrency and max_bytes of at least 1, retries of at least 0 and a positive timeout, got "
                f"{self.concurrency}, {self.max_bytes}, {self.retries} and {self.timeout}"
            )
        if self.guidance not in Guidance.__args__:  # type: ignore[attr-defined]
            raise InputError(f"expected guidance as one of {', '.join(Guidance.__args__)}, got {self.guidance!r}")  # type: ignore[attr-defined]
        if (key := self.key) is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
            raise InputError("expected an API key of printable ASCII characters without blanks around it; correct it")

    @property
    def address(self) -> str:
        """The base URL, with ``/v1`` and without a trailing slash."""
        base = self.url.rstrip("/")
        return base if base.endswith("/v1") else f"{base}/v1"

    @property
    def key(self) -> str | None:
        """The API key given, or that in the environment."""
        return self.api_key if self.api_key is not None else os.environ.get(API_KEY_VARIABLE) or None

    def adapter_name(self, language: str) -> str:
        """The server's name for the adapter of ``language``."""
        if isinstance(self.adapters, str):
            return self.adapters.replace(_LANGUAGE, language)
        return self.adapters.get(language, language)

    def is_named(self, language: str) -> bool:
        """Whether the caller named the adapter of ``language``."""
        return self.adapters != _LANGUAGE if isinstance(self.adapters, str) else language in self.adapters
