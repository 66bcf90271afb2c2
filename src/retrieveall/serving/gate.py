"""What every request passes before the routes: host, key, size and time of the body, shutdown; and what is logged.

Logs hold method, route, status and duration. Texts, query strings, keys and messages of unexpected errors, which may
quote a text, never reach them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException

from retrieveall.serving.logs import log_error, logger
from retrieveall.serving.metrics import Metrics
from retrieveall.serving.settings import ServiceSettings

__all__ = ["OPEN", "Gate", "bearer", "same_secret"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz")
"""Routes without a key: the probes of an orchestrator have none."""
_WHILE_CLOSING = (*OPEN, "/metrics")
_SHUTTING_DOWN = 503, "the server is shutting down; repeat the request elsewhere"
_UPLOADS = "/v1/languages/"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}


class Gate:
    """ASGI middleware around the whole application.

    Args:
        closing: whether the service is shutting down.
    """

    def __init__(self, app: App, settings: ServiceSettings, metrics: Metrics, closing: Callable[[], bool]) -> None:
        self._app, self._settings, self._metrics, self._closing = app, settings, metrics, closing
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, sent = time.monotonic(), _Sent(send)
        self.active += 1
        try:
            await self._pass(scope, receive, sent)
        except Exception as error:
            log_error(error)
            if not sent.status:
                await _refuse(sent, 500, "internal error; the server's log says where")
        except asyncio.CancelledError:  # the server ends: told by one line, not by uvicorn's traceback
            if not self._closing():
                raise
            logger.warning("%s was ended with the server", _method(scope))
            if not sent.status:
                await _refuse(sent, *_SHUTTING_DOWN)
        finally:
            self.active -= 1
            seconds = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "other")
            status = sent.status or 499  # nginx's number for a client that left
            self._metrics.request(route, status, seconds)
            logger.info("%s %s %d %.0f ms", _method(scope), route, status, 1000 * seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: _Sent) -> None:
        headers = dict(scope["headers"])
        refusal = self._refusal(scope["path"], headers)
        if refusal:
            await _refuse(send, *refusal)
            return
        limit, seconds = self._limits(scope)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < 20 and int(length) > limit:
            await _refuse(send, 413, _too_large(limit), close=True)
            return
        await self._app(scope, _Body(receive, limit, seconds), send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        hosts = self._settings.hosts
        if hosts and _host(headers.get(b"host", b"")) not in hosts:
            return 400, "expected a known Host header; start the server with --allow-host for this name"
        if path in OPEN:
            return None
        if not self._has_key(headers.get(b"authorization", b"")):
            return 401, "expected the API key as 'Authorization: Bearer KEY'"
        if self._closing() and path not in _WHILE_CLOSING:
            return _SHUTTING_DOWN
        return None

    def _has_key(self, authorization: bytes) -> bool:
        if self._settings.key is None:
            return True
        given = bearer(authorization)
        secrets = [each for each in (self._settings.key, self._settings.admin_token) if each is not None]
        # All are compared, so that the time does not tell which of them is close.
        matches = [same_secret(given, each.get_secret_value()) for each in secrets]
        return any(matches)

    def _limits(self, scope: Scope) -> tuple[int, float]:
        if scope["path"].startswith(_UPLOADS) and scope["method"] == "PUT":
            return self._settings.upload_bytes, self._settings.upload_seconds
        return self._settings.body_bytes, self._settings.body_seconds


def bearer(authorization: bytes) -> bytes:
    """The key of ``Bearer KEY``, or the password of ``Basic``, which browsers send for the page."""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def same_secret(given: bytes, secret: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given, secret.encode())


class _Sent:
    """``send`` with security headers, which remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            has = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name, value) for name, value in _HEADERS.items() if name not in has]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)


class _Body:
    """``receive`` that ends a body that is too large or too slow with an error."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive, self._limit, self._seconds = receive, limit, seconds
        self._until = time.monotonic() + seconds
        self._size = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:  # waiting for the client to leave
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - time.monotonic()))
        except TimeoutError:
            self._complete = True
            text = f"expected the whole request within {self._seconds:g} s; send less or faster"
            raise HTTPException(408, text, {"connection": "close"}) from None
        self._size += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self._size > self._limit:
            raise HTTPException(413, _too_large(self._limit), {"connection": "close"})
        return message


def _too_large(limit: int) -> str:
    return f"expected a request of at most {limit:,} bytes; send fewer texts at a time"


def _host(value: bytes) -> str:
    name = value.decode("latin-1").lower()
    return name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name


def _method(scope: Scope) -> str:
    known = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
    return str(scope["method"]) if scope["method"] in known else "OTHER"


async def _refuse(send: Send, status: int, detail: str, *, close: bool = False) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="RetrieveAll: API key as password", charset="UTF-8"'))
    if status == 503:
        headers += [(b"retry-after", b"2"), (b"connection", b"close")]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
