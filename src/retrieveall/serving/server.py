"""Runs the application: binds, tells where it listens, and on SIGTERM finishes what runs before it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from retrieveall.errors import InputError
from retrieveall.serving.app import create_app
from retrieveall.serving.logs import logger
from retrieveall.serving.service import Service
from retrieveall.serving.settings import ServiceSettings

__all__ = ["serve"]

_BACKLOG = 2048
_POLL = 0.05
_ANSWERING = 2.0  # seconds in which requests that were given up are answered
_ANSWERING_AT_ONCE = 0.5
_KEEP_ALIVE = 30


def serve(
    model: Any,
    settings: ServiceSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        port: 0 takes a free one.
        announce: called with the address once requests are taken.

    Raises:
        InputError: the address cannot be used.
    """
    listening = _bind(host, port)
    app = create_app(model, settings)
    config = uvicorn.Config(
        app,
        access_log=False,  # it would log query strings
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = _Server(config, app.state.service, announce or (lambda address: None))
    try:
        server.run([listening])
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """uvicorn refuses connections on SIGTERM; this one answers 503 until the running requests are done."""

    def __init__(self, config: uvicorn.Config, service: Service, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service, self._announce = service, announce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        self._hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        for each in sockets or []:
            self._announce(_address(each))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not super(): it would raise the signal again at the end, and the exit code would not be 0.
        if self._service.closing and sig == signal.SIGINT:
            self._hurried = True  # not force_exit: uvicorn would then leave tasks and lifespan to be torn down
            return
        self._service.close()
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._finish())

    async def _finish(self) -> None:
        until = time.monotonic() + self._service.settings.drain_seconds
        while not self._is_idle() and not self._hurried and time.monotonic() < until:
            await asyncio.sleep(_POLL)
        if not self._is_idle():
            if self._hurried:
                logger.warning("stopped at once, requests were still running")
            else:
                logger.warning("requests were still running after %g s", self._service.settings.drain_seconds)
            self._service.give_up(at_once=self._hurried)
            until = time.monotonic() + (_ANSWERING_AT_ONCE if self._hurried else _ANSWERING)
            while self._service.active_requests() and time.monotonic() < until:
                await asyncio.sleep(_POLL)
            self._hang_up()
        self.should_exit = True

    def _hang_up(self) -> None:
        """Cut the connections whose client does not take its answer; uvicorn would cancel their tasks and log it."""
        for connection in list(self.server_state.connections):
            cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
            if transport is not None and cycle is not None and not cycle.response_complete:
                transport.abort()

    def _is_idle(self) -> bool:
        return self._service.active_requests() == 0 and self._service.batcher.idle


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"expected an address to listen on, got {host[:80]!r}: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(f"could not listen on {host}:{port}: {error.strerror}; choose another --port") from None
    listening.set_inheritable(True)
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
