"""Clients of ``retrieveall serve``, synchronous and asynchronous. They need httpx and load no torch.

They return what ``RetrieveAll.predict`` returns, so that a program can change from one to the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict, TypeVar, Unpack

from pydantic import BaseModel, ValidationError

from retrieveall.arguments import (
    check_option_names,
    check_text,
    check_threshold,
    check_unicode,
    checked_path,
    languages_per_text,
    listed,
    listed_levels,
    server_url,
    wanted_labels,
)
from retrieveall.config import check_language as check_identifier
from retrieveall.errors import EngineError, InputError, MissingExtraError
from retrieveall.serving.schema import Changed, ExtractResponse, Language, Languages, ModelInfo, StreamResult
from retrieveall.serving.settings import KEY_VARIABLE
from retrieveall.types import LEVELS, Level, Prediction

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncClient", "Client", "Options"]

M = TypeVar("M", bound=BaseModel)
Texts: TypeAlias = str | Sequence[str]

_URL = "http://127.0.0.1:8080"
_REPEATED = (429, 503)
_LONGEST_WAIT = 60.0
_LONGEST_TIMEOUT = 1e8  # what sockets take
_TAR = "application/x-tar"


class Options(TypedDict, total=False):
    """What both clients take with the texts.

    ``language``, ``labels``, ``threshold`` and ``levels`` are those of ``RetrieveAll.predict``; with ``explain``,
    knowledge and prompts come with the predictions.
    """

    language: str | Sequence[str | None] | None
    labels: str | Sequence[str] | None
    threshold: float | None
    explain: bool
    levels: Collection[Level]


class _Settings:
    """What both clients share: requests made and answers read, without sending."""

    def __init__(self, url: str, key: str | None, timeout: float, retries: int) -> None:
        numbers = type(retries) is int and isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        if not numbers or retries < 0 or not 0 < timeout < _LONGEST_TIMEOUT:
            raise InputError(
                f"expected retries of at least 0 and a positive timeout in seconds, got {retries!r} and {timeout!r}"
            )
        self.retries = retries
        self._url, self._timeout = server_url(url, f"use key or {KEY_VARIABLE}").rstrip("/"), timeout
        self._key = _checked_key(key)

    def options(self) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return {"base_url": self._url, "headers": headers, "timeout": self._timeout, "trust_env": False}

    def wait(self, response: httpx.Response, tries: int) -> float | None:
        """Seconds before the request is repeated; None if it is not."""
        if response.status_code not in _REPEATED or tries >= self.retries:
            return None
        told = response.headers.get("retry-after", "")
        return min(_LONGEST_WAIT, float(told)) if told.isdigit() else min(_LONGEST_WAIT, 2.0**tries)


class Client:
    """A client of ``retrieveall serve``.

    Args:
        url: address of the server; ``http://`` is added where it names no protocol.
        key: the API key; read from the environment variable ``RETRIEVEALL_SERVE_KEY`` if None. To add and remove
            languages, the admin token.
        timeout: seconds for each request.
        retries: how often a request is repeated that the server had no room for (429, 503), after the time it names.

    Raises:
        InputError: what the server refused, with its reason.
        EngineError: the server could not be reached, has no room after all retries, or failed; in a stream also for
            a text without a result, after those before it.

    Examples:
        >>> with Client("http://127.0.0.1:8080") as client:
        ...     client.extract(["Ada Lovelace was born in London."])[0].entities
    """

    def __init__(
        self, url: str = _URL, *, key: str | None = None, timeout: float = 60.0, retries: int = 4, **options: Any
    ) -> None:
        self._settings = _Settings(url, key, timeout, retries)
        with _failures():
            self._http = _httpx().Client(**self._settings.options() | options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def extract(self, texts: Texts, **options: Unpack[Options]) -> list[Prediction]:
        """The entities of each text, as ``RetrieveAll.predict``; knowledge and prompts only with ``explain``."""
        asked = _asked(texts, options)
        return _predictions(asked, self._send("POST", "/v1/extract", json=asked))

    def stream(self, texts: Texts, **options: Unpack[Options]) -> Iterator[Prediction]:
        """The same for long lists, in order, each as soon as it is computed."""
        return self._stream(_asked(texts, options))

    def _stream(self, asked: Mapping[str, Any]) -> Iterator[Prediction]:
        with _failures():
            response = self._open("POST", "/v1/extract/stream", json=asked)
            try:
                for line in response.iter_lines():
                    yield _streamed(asked, line)
            finally:
                response.close()

    def model(self) -> ModelInfo:
        return _parsed(ModelInfo, self._send("GET", "/v1/model"))

    def languages(self) -> list[Language]:
        return _parsed(Languages, self._send("GET", "/v1/languages")).languages

    def add_language(self, language: str, archive: str | Path) -> list[str]:
        """Upload a language (``retrieveall.serving.archive.pack`` makes the file); the languages afterwards."""
        path, body, headers = _language_path(language), _read(archive), {"content-type": _TAR}
        return _parsed(Changed, self._send("PUT", path, content=body, headers=headers)).languages

    def remove_language(self, language: str) -> list[str]:
        """Remove a language; the languages afterwards."""
        return _parsed(Changed, self._send("DELETE", _language_path(language))).languages

    def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        with _failures():
            response = self._open(method, path, **body)
            response.read()
            return response

    def _open(self, method: str, path: str, **body: Any) -> httpx.Response:
        request = self._http.build_request(method, path, **body)
        tries = 0
        while True:
            response = self._http.send(request, stream=True)
            if response.is_success:
                return response
            response.read()
            seconds = self._settings.wait(response, tries)
            if seconds is None:
                raise _refusal(response)
            time.sleep(seconds)
            tries += 1


class AsyncClient:
    """``Client`` for asyncio; the same arguments and errors.

    Examples:
        >>> async with AsyncClient() as client:
        ...     predictions = await client.extract(["Ada Lovelace was born in London."])
    """

    def __init__(
        self, url: str = _URL, *, key: str | None = None, timeout: float = 60.0, retries: int = 4, **options: Any
    ) -> None:
        self._settings = _Settings(url, key, timeout, retries)
        with _failures():
            self._http = _httpx().AsyncClient(**self._settings.options() | options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def extract(self, texts: Texts, **options: Unpack[Options]) -> list[Prediction]:
        """As ``Client.extract``."""
        asked = _asked(texts, options)
        return _predictions(asked, await self._send("POST", "/v1/extract", json=asked))

    def stream(self, texts: Texts, **options: Unpack[Options]) -> AsyncIterator[Prediction]:
        """As ``Client.stream``."""
        return self._stream(_asked(texts, options))

    async def _stream(self, asked: Mapping[str, Any]) -> AsyncIterator[Prediction]:
        with _failures():
            response = await self._open("POST", "/v1/extract/stream", json=asked)
            try:
                async for line in response.aiter_lines():
                    yield _streamed(asked, line)
            finally:
                await response.aclose()

    async def model(self) -> ModelInfo:
        return _parsed(ModelInfo, await self._send("GET", "/v1/model"))

    async def languages(self) -> list[Language]:
        return _parsed(Languages, await self._send("GET", "/v1/languages")).languages

    async def add_language(self, language: str, archive: str | Path) -> list[str]:
        """As ``Client.add_language``."""
        path, headers = _language_path(language), {"content-type": _TAR}
        response = await self._send("PUT", path, content=await asyncio.to_thread(_read, archive), headers=headers)
        return _parsed(Changed, response).languages

    async def remove_language(self, language: str) -> list[str]:
        """As ``Client.remove_language``."""
        return _parsed(Changed, await self._send("DELETE", _language_path(language))).languages

    async def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        with _failures():
            response = await self._open(method, path, **body)
            await response.aread()
            return response

    async def _open(self, method: str, path: str, **body: Any) -> httpx.Response:
        request = self._http.build_request(method, path, **body)
        tries = 0
        while True:
            response = await self._http.send(request, stream=True)
            if response.is_success:
                return response
            await response.aread()
            seconds = self._settings.wait(response, tries)
            if seconds is None:
                raise _refusal(response)
            await asyncio.sleep(seconds)
            tries += 1


def _checked_key(key: Any) -> str | None:
    """The key, or that of the environment.

    Raises:
        InputError: it cannot stand in a header; the key itself is not shown.
    """
    name = f"key (or {KEY_VARIABLE})"
    if key is not None and not isinstance(key, str):
        raise InputError(f"expected {name} as a string, got {type(key).__name__}")
    found: str | None = key or os.environ.get(KEY_VARIABLE)
    if found and not (found.isascii() and found.isprintable() and found == found.strip()):
        raise InputError(
            f"expected {name} of ASCII letters, digits and signs, without line breaks and spaces around it, "
            "got other characters; copy it again"
        )
    return found


class _failures:
    """Turns httpx's errors into those of this library."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and "client has been closed" in str(error):
            raise InputError("expected an open client, this one was closed; make another") from None
        if isinstance(error, (UnicodeError, _httpx().InvalidURL)):
            raise InputError("expected a server address with the name of a host, got one that cannot be used") from None
        if isinstance(error, _httpx().HTTPError):
            detail = " ".join(str(error).split()) or type(error).__name__
            raise EngineError(f"the server did not answer: {detail}; is 'retrieveall serve' running?") from error


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise MissingExtraError("httpx", "server-client", "the client of the service") from None
    return httpx


def _asked(texts: Texts, options: Options) -> dict[str, Any]:
    """The body of a request, with all that can be checked without the model."""
    check_option_names(options, tuple(Options.__annotations__), "the client")
    texts = list(listed(texts))
    for number, text in enumerate(texts):
        check_text(text, number)
        check_unicode(text, f"text {number} of the list (the first is 0)")
    language, labels = options.get("language"), options.get("labels")
    languages_per_text(language, len(texts), None)
    threshold, explain = options.get("threshold"), options.get("explain", False)
    check_threshold(threshold)
    if not isinstance(explain, bool):
        raise InputError(f"expected explain as True or False, got {repr(explain)[:80]}")
    return {
        "texts": texts,
        "language": _checked_names(language, "language"),
        "labels": None if labels is None else _checked_names(sorted(wanted_labels(labels, None)), "labels"),
        "threshold": None if threshold is None else float(threshold),  # numpy's are no JSON
        "explain": explain,
        "levels": listed_levels(options.get("levels", LEVELS)),
    }


def _checked_names(names: str | Sequence[str | None] | None, what: str) -> str | list[str | None] | None:
    for name in [names] if isinstance(names, str) else names or ():
        if name is not None:
            check_unicode(name, what)
    return names if names is None or isinstance(names, str) else list(names)


def _language_path(language: Any) -> str:
    """The address of a language.

    Raises:
        LanguageError: no language identifier.
    """
    return f"/v1/languages/{check_identifier(language)}"


def _predictions(asked: Mapping[str, Any], response: httpx.Response) -> list[Prediction]:
    results = _parsed(ExtractResponse, response).results
    return [result.to_prediction(text) for text, result in zip(asked["texts"], results, strict=True)]


def _streamed(asked: Mapping[str, Any], line: str) -> Prediction:
    try:
        result = StreamResult.model_validate_json(line)
    except ValidationError:
        raise _unexpected() from None
    if result.error is not None:
        raise EngineError(f"text {result.index}: {result.error}")
    return result.to_prediction(asked["texts"][result.index])


def _parsed(kind: type[M], response: httpx.Response) -> M:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError:
        raise _unexpected() from None


def _unexpected() -> EngineError:
    return EngineError("expected an answer of 'retrieveall serve' of this version, got another; check the address")


def _refusal(response: httpx.Response) -> Exception:
    try:
        detail = str(json.loads(response.content)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase or "no reason given"
    text = f"{response.status_code}: {detail[:500]}"
    refused = 400 <= response.status_code < 500 and response.status_code not in _REPEATED
    return InputError(text) if refused else EngineError(text)


def _read(archive: str | Path) -> bytes:
    path = checked_path(archive, "the archive")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"expected an archive at {path}: {error.strerror}; check the path") from None
