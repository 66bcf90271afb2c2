"""A JSON-over-HTTP client for one server, with limits, time-outs, retries and concurrent calls.

Only the configured address is contacted: redirects are not followed, and proxies and credentials of the environment
are not used. httpx is imported when the first client is created.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from retrieveall.engines.base import Failure
from retrieveall.engines.remote.settings import API_KEY_VARIABLE, ServerSettings
from retrieveall.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    import httpx

__all__ = ["CallError", "ServerClient"]

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_WAIT = 0.5  # seconds, doubled each time
_LONGEST_WAIT = 30.0
_LONGEST_ASKED = 120.0
"""Maximum Retry-After in seconds; for a longer one the call fails at once."""
_NOT_TRIED = "not sent, because the server stopped responding"

T = TypeVar("T")


class CallError(EngineError):
    """A call failed permanently. ``fatal``: all other calls would fail too. ``passing``: the server may be down."""

    def __init__(self, message: str, *, fatal: bool = False, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.passing = passing
        self.wait = wait


class ServerClient:
    """Calls to one server; thread-safe.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(self, settings: ServerSettings) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "server-client", "the engine 'openai'") from None
        self.settings = settings
        self._library = httpx
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if settings.key is not None:
            headers["Authorization"] = f"Bearer {settings.key}"
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(settings.timeout, connect=min(settings.timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency),
            follow_redirects=False,
            trust_env=False,
        )
        self._stop = threading.Event()
        self._running = threading.Lock()
        self._answered = 0.0  # time of the last response

    def close(self) -> None:
        self._http.close()

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON response to a GET, or to a POST of ``body``.

        Raises:
            CallError: no response after all retries, an error, or not a JSON object.
        """
        begun = time.monotonic()
        for attempt in range(self.settings.retries + 1):
            try:
                answer = self._once(path, body)
                self._answered = time.monotonic()
                return answer
            except CallError as error:
                if not error.passing:
                    raise
                if attempt == self.settings.retries or error.wait > _LONGEST_ASKED or self._pause(attempt, error.wait):
                    down = self._answered < begun  # no other call got a response meanwhile
                    raise CallError(f"{error} ({attempt + 1} attempts)", fatal=down, passing=True) from None
        raise AssertionError("the last attempt returns or raises")

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T | Failure]:
        """The results of the jobs, in order; ``concurrency`` of them run at once. A failure does not stop the others.

        After a failure that would affect all jobs, such as a server that is down, the remaining ones are not run.
        """
        with self._running:
            self._stop.clear()
            pool = ThreadPoolExecutor(min(self.settings.concurrency, len(jobs)) or 1, "retrieveall-server")
            try:
                return [future.result() for future in [pool.submit(self._guarded, job) for job in jobs]]
            except BaseException:
                self._stop.set()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, job: Callable[[], T]) -> T | Failure:
        if self._stop.is_set():
            return Failure(_NOT_TRIED)
        try:
            return job()
        except EngineError as error:
            if isinstance(error, CallError) and error.fatal:
                self._stop.set()
            return Failure(str(error))

    def _pause(self, attempt: int, asked: float) -> bool:
        """Wait before the next attempt: Retry-After, or exponential back-off with jitter. Returns True to give up."""
        longest = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
        return self._stop.wait(max(asked, random.uniform(longest / 2, longest)))

    def _once(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        where = f"{self.settings.address}{path}"
        deadline = time.monotonic() + self.settings.timeout
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        kind = {} if content is None else {"Content-Type": "application/json"}
        try:
            with self._http.stream(method, where, content=content, headers=kind) as response:
                raw = self._read(response, deadline, where)
        except self._library.TimeoutException:
            raise self._too_slow(where) from None
        except (self._library.TransportError, self._library.DecodingError) as error:
            detail = self._clean(str(error) or type(error).__name__)
            raise CallError(f"could not reach {where}: {detail}; is the server running?", passing=True) from None
        if response.status_code != 200:
            raise self._refusal(response, raw, where)
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise CallError(f"expected a JSON object from {where}, got {self._clean(raw[:80])!r}; check the address")
        return answer

    def _read(self, response: httpx.Response, deadline: float, where: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            parts.append(part)
            size += len(part)
            if size > self.settings.max_bytes:
                raise CallError(f"{where} sent more than {self.settings.max_bytes} bytes; raise max_bytes")
            if time.monotonic() > deadline:
                raise self._too_slow(where)
        return b"".join(parts)

    def _too_slow(self, where: str) -> CallError:
        return CallError(
            f"{where} did not answer within {self.settings.timeout:g} s; raise timeout, or lower concurrency",
            passing=True,
        )

    def _refusal(self, response: httpx.Response, raw: bytes, where: str) -> CallError:
        status = response.status_code
        message = f"{where} answered {status}: {self._clean(_server_message(raw))}"
        if status in _PASSING:
            return CallError(message, passing=True, wait=_retry_after(response.headers.get("Retry-After")))
        if status in (401, 403):
            return CallError(f"{message}; set api_key or {API_KEY_VARIABLE}", fatal=True)
        if 300 <= status < 400:
            return CallError(f"{where} redirects to another address, which is not followed; use that one", fatal=True)
        return CallError(message)

    def _clean(self, text: str | bytes) -> str:
        """At most 300 printable characters, without the API key, which a server may echo."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        if self.settings.key is not None:
            text = text.replace(self.settings.key, "***")
        return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:300]


def _server_message(raw: bytes) -> str | bytes:
    """The message of an error, which servers wrap in one or two objects."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return raw[:2000]
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else raw[:2000]


def _retry_after(value: str | None) -> float:
    """Retry-After in seconds, sent as a number or a date; 0 if absent."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _seconds_until(date: str) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
