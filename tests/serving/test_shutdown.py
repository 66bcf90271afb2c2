"""S4: a real SIGTERM to a real process: running requests finish, new ones get 503, exit code 0."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_fakes import until

HERE = Path(__file__).parent
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from serving_fakes import FakeModel
from retrieveall.serving.server import serve
from retrieveall.serving.settings import ServiceSettings
serve(FakeModel(seconds=float(sys.argv[2])), ServiceSettings(batch_texts=1, drain_seconds=float(sys.argv[3])), port=0,
      announce=lambda address: print(address, flush=True))
"""


@contextmanager
def process(seconds: float = 0.5, drain: float = 60.0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(HERE), str(seconds), str(drain)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert started.stdout is not None
        yield started, started.stdout.readline().strip()
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        started.communicate()


def post(url: str, texts: list[str]) -> httpx.Response:
    return httpx.post(f"{url}/v1/extract", json={"texts": texts}, timeout=60, trust_env=False)


def open_requests(url: str) -> float:
    """Requests that are being answered, with the one that asks."""
    lines = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("retrieveall_open_requests "))


@pytest.mark.slow
def test_sigterm_finishes_what_runs() -> None:
    with process(seconds=1.0) as (server, url), ThreadPoolExecutor(4) as threads:
        assert httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 200
        running = [threads.submit(post, url, ["Anna", "Karl"]) for _ in range(4)]
        until(lambda: open_requests(url) == 5)  # of which one is the question itself
        server.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 503)
        refused = post(url, ["late"])
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        assert (
            httpx.get(f"{url}/healthz", timeout=30, trust_env=False).status_code == 200
        )  # or the process would be killed
        assert {call.result().status_code for call in running} == {200}
        assert server.wait(timeout=30) == 0
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()
        with pytest.raises(httpx.HTTPError):
            post(url, ["later"])


@pytest.mark.slow
def test_sigterm_ends_an_idle_server_at_once() -> None:
    # An open connection does not hold it up.
    with process() as (server, url), httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0


@pytest.mark.slow
def test_what_runs_too_long_does_not_keep_the_server() -> None:
    with process(seconds=30.0, drain=0.5) as (server, url):
        threading.Thread(target=lambda: suppress_errors(url), daemon=True).start()
        until(lambda: open_requests(url) == 2)
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=28)
        assert time.monotonic() - started < 28


def suppress_errors(url: str) -> None:
    with suppress(httpx.HTTPError):
        post(url, ["Anna"])


def streamed(url: str, texts: list[str]) -> list[dict[str, Any]]:
    body = {"texts": texts}
    with httpx.stream("POST", f"{url}/v1/extract/stream", json=body, timeout=60, trust_env=False) as response:
        return [json.loads(line) for line in response.iter_lines()]


def not_reading(url: str, texts: list[str]) -> socket.socket:
    """A client that asks for a long stream and reads nothing of it."""
    place = httpx.URL(url)
    client = socket.create_connection((place.host, place.port or 80))
    body = json.dumps({"texts": texts, "explain": True}).encode()
    head = f"POST /v1/extract/stream HTTP/1.1\r\nHost: {place.host}\r\nContent-Type: application/json\r\n"
    client.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def not_sending(url: str) -> socket.socket:
    """A client that announces a body and sends none."""
    place = httpx.URL(url)
    client = socket.create_connection((place.host, place.port or 80))
    head = f"POST /v1/extract HTTP/1.1\r\nHost: {place.host}\r\nContent-Type: application/json\r\n"
    client.sendall(head.encode() + b"Content-Length: 99\r\n\r\n")
    return client


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_what_is_cut_off_is_told_in_one_line(second: bool) -> None:
    """After ``--drain``, and on a second Ctrl-C: every client has an answer, and no traceback is logged."""
    with process(seconds=0.2, drain=60.0 if second else 0.5) as (server, url), ThreadPoolExecutor(2) as threads:
        lines = threads.submit(streamed, url, ["Anna"] * 300)
        whole = threads.submit(post, url, ["Anna"] * 200)
        until(lambda: open_requests(url) == 3)
        server.send_signal(signal.SIGINT)
        if second:
            until(lambda: httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 503)
            server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
        assert whole.result().status_code == 503
        assert [line["index"] for line in lines.result()] == list(range(300))
        assert lines.result()[-1]["error"] == "the server is shutting down"
        assert server.stderr is not None
        assert len(server.stderr.read().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_clients_that_neither_read_nor_send_do_not_hold_it_up(second: bool) -> None:
    with process(seconds=0.0, drain=60.0 if second else 0.5) as (server, url):
        with not_reading(url, ["Anna " * 400] * 2000), not_sending(url):
            until(lambda: open_requests(url) == 3)
            time.sleep(1.0)  # until the buffers between them are full
            server.send_signal(signal.SIGINT)
            if second:
                until(lambda: httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 503)
                server.send_signal(signal.SIGINT)
            assert server.wait(timeout=20) == 0
        assert server.stderr is not None
        assert len(server.stderr.read().splitlines()) == 1
