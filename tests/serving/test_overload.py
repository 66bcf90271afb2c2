"""S2 and S3: more requests than the model can compute, and clients that do not wait."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from serving_fakes import FakeModel, live, until

from retrieveall.serving.settings import ServiceSettings

SMALL = ServiceSettings(queue_texts=16, batch_texts=4, batch_seconds=0.001)


def ask(client: httpx.Client, text: str) -> tuple[int, float, httpx.Response]:
    started = time.monotonic()
    answer = client.post("/v1/extract", json={"texts": text})
    return answer.status_code, time.monotonic() - started, answer


def test_a_full_queue_is_said_at_once() -> None:
    model = FakeModel(held=True)
    with (
        live(model, SMALL) as (url, service),
        ThreadPoolExecutor(40) as threads,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        first = threads.submit(ask, client, "first")
        assert model.entered.wait(20)
        accepted = [threads.submit(ask, client, f"N{i}") for i in range(16)]
        until(lambda: service.batcher.waiting == 16)
        refused = [ask(client, "more") for _ in range(20)]
        assert {status for status, _, _ in refused} == {429}
        assert median(seconds for _, seconds, _ in refused) < 0.1  # the model is held back: none waits for it
        assert all(answer.headers["retry-after"].isdigit() for _, _, answer in refused)
        assert service.batcher.waiting == 16
        model.go.set()
        assert {call.result()[0] for call in [first, *accepted]} == {200}
        assert ask(client, "after")[0] == 200
    assert "more" not in model.computed


def test_four_times_the_capacity() -> None:
    """A model of 20 texts a second is asked by 64 clients at once; accepted requests have a bounded latency."""
    model = FakeModel(seconds=0.2)
    with (
        live(model, SMALL) as (url, _),
        httpx.Client(base_url=url, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=80)) as client,
    ):
        answers: list[tuple[int, float, httpx.Response]] = []
        end = time.monotonic() + 4

        def load() -> None:
            while time.monotonic() < end:
                answers.append(ask(client, "Anna"))

        memory = psutil.Process().memory_info().rss
        with ThreadPoolExecutor(64) as threads:
            for _ in range(64):
                threads.submit(load)
        grown = psutil.Process().memory_info().rss - memory
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429}
        # The queue holds 16 texts, of which 4 take 0.2 s; the rest of the bound is for a busy machine.
        assert max(seconds for status, seconds, _ in answers if status == 200) < 5
        assert grown < 100 << 20
        started = time.monotonic()
        while ask(client, "Anna")[0] != 200:
            assert time.monotonic() - started < 5
        assert ask(client, "Anna")[1] < 2


def test_a_request_larger_than_the_queue_is_computed_when_it_is_empty() -> None:
    model = FakeModel()
    with live(model, ServiceSettings(queue_texts=2)) as (url, _):
        answer = httpx.post(f"{url}/v1/extract", json={"texts": ["a"] * 9}, timeout=30, trust_env=False)
    assert answer.status_code == 200
    assert len(model.computed) == 9


def hang_up(url: str, asked: dict[str, Any], path: str = "/v1/extract") -> socket.socket:
    """A client that has sent its request, to be closed."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname or "", place.port or 0), timeout=20)
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_clients_that_hang_up_are_not_computed() -> None:
    model = FakeModel(held=True)
    with live(model) as (url, service), ThreadPoolExecutor(6) as threads:
        first = threads.submit(httpx.post, f"{url}/v1/extract", json={"texts": "first"}, timeout=60, trust_env=False)
        assert model.entered.wait(20)
        gone = [hang_up(url, {"texts": [f"Gone{i}", "Gone"]}) for i in range(100)]
        stay = [
            threads.submit(httpx.post, f"{url}/v1/extract", json={"texts": f"Stay{i}"}, timeout=60, trust_env=False)
            for i in range(5)
        ]
        until(lambda: service.batcher.waiting == 205)
        for connection in gone:
            connection.close()
        until(lambda: service.batcher.waiting == 5)  # their places are free again
        model.go.set()
        assert first.result().status_code == 200
        for number, call in enumerate(stay):
            assert call.result().json()["results"][0]["entities"][0]["text"] == f"Stay{number}"
        assert not [text for text in model.computed if text.startswith("Gone")]
        until(lambda: service.active_requests() == 0)
        assert "retrieveall_cancelled_requests_total 100.0" in httpx.get(f"{url}/metrics", trust_env=False).text


def test_a_stream_that_nobody_reads_is_not_computed() -> None:
    model = FakeModel(held=True)
    with live(model) as (url, service):
        connection = hang_up(url, {"texts": ["Gone"] * 1000}, "/v1/extract/stream")
        assert model.entered.wait(20)
        connection.close()
        until(lambda: service.batcher.waiting == 0)
        model.go.set()
        until(lambda: service.batcher.idle)
    assert len(model.computed) <= 32


def test_garbage_slow_and_leaving_clients_do_not_disturb_others() -> None:
    model = FakeModel(seconds=0.005)
    stop = threading.Event()
    with live(model, ServiceSettings(body_seconds=2.0)) as (url, service), ThreadPoolExecutor(12) as threads:

        def disturb(number: int) -> None:
            while not stop.is_set():
                connection = hang_up(url, {"texts": ["Gone"] * 20})
                if number % 2:
                    connection.sendall(b"\x00garbage\r\n\r\n")
                connection.close()
                time.sleep(0.02)  # clients and server share this process: without a pause it does nothing else

        def work(number: int) -> set[int]:
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                return {ask(client, f"N{number}")[0] for _ in range(20)}

        disturbing = [threads.submit(disturb, number) for number in range(4)]
        working = list(threads.map(work, range(8)))
        stop.set()
        for each in disturbing:
            each.result()
        assert working == [{200}] * 8
        until(lambda: service.batcher.idle)
        assert service.batcher.waiting == 0


def test_requests_that_outlast_the_drain_are_answered() -> None:
    model = FakeModel(held=True)
    with (
        live(model) as (url, service),
        ThreadPoolExecutor(4) as threads,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        calls = [threads.submit(ask, client, f"N{i}") for i in range(3)]
        assert model.entered.wait(20)
        until(lambda: service.active_requests() == 3)
        service.batcher.abandon()
        assert [call.result()[0] for call in calls] == [503] * 3
        model.go.set()
