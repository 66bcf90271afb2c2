"""A service that runs for long holds no more than one that has just begun."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import torch
from serving_fakes import live, until

from retrieveall import RetrieveAll
from retrieveall.config import parse_config
from retrieveall.serving import service as service_module
from retrieveall.serving.archive import pack
from retrieveall.serving.memory import give_back
from retrieveall.serving.settings import ServiceSettings

ADMIN = {"authorization": "Bearer admin-of-the-test"}
SETTINGS = parse_config(ServiceSettings, {"admin_token": "admin-of-the-test", "characters": 500}, "test")
CHANGES = 3


def _held() -> Counter[str]:
    """Living objects by type: those of the library, tensors, and what requests are made of."""
    gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).partition(".")[0] in ("retrieveall", "asyncio", "_asyncio", "starlette", "concurrent"):
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
        elif issubclass(kind, (BaseException, torch.Tensor)):
            found[kind.__name__] += 1
    return found


def _use(client: httpx.Client, archive: bytes, first: int) -> None:
    """Requests of every kind, also such that fail, none of which has the text of another; and language changes."""
    for number in range(first, first + CHANGES):
        for part in range(8):
            texts = [f"Anna Meier met Karl number {number} {part} in London.", f"昨天王小明上了报纸 {number} {part}。"]
            assert client.post("/v1/extract", json={"texts": texts, "explain": part == 0}).status_code == 200
            assert client.post("/v1/extract/stream", json={"texts": texts}).status_code == 200
        assert client.post("/v1/extract", json={"texts": f"{number} " * 500}).status_code == 413
        assert client.post("/v1/extract", json={"texts": "a", "language": f"x{number}"}).status_code == 422
        assert client.post("/v1/extract", content=b"{", headers={"content-type": "application/json"}).status_code == 400
        assert client.get(f"/v1/none/{number}").status_code == 404
        assert client.put("/v1/languages/de", content=archive, headers=ADMIN).status_code == 409
        assert client.delete("/v1/languages/de", headers=ADMIN).status_code == 200
        assert client.put("/v1/languages/de", content=archive[:-900], headers=ADMIN).status_code == 422
        assert client.put("/v1/languages/de", content=archive, headers=ADMIN).status_code == 200
    assert client.get("/metrics").status_code == 200


def test_nothing_is_kept_of_requests_and_changes(model_copy: Path, tmp_path: Path) -> None:
    pack(model_copy, "de", tmp_path / "de.tar.gz")
    archive = (tmp_path / "de.tar.gz").read_bytes()
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    threads = set(threading.enumerate())
    with live(model, SETTINGS) as (url, service), httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        _use(client, archive, 0)  # what is made once: tables, the threads that prepare a language
        until(lambda: service.batcher.idle and service.active_requests() == 0)
        before, series = _held(), len(service.metrics.render().splitlines())
        _use(client, archive, CHANGES)
        until(lambda: service.batcher.idle and service.active_requests() == 0)

        def more() -> dict[str, tuple[int, int]]:
            return {name: (before[name], each) for name, each in _held().items() if each > before[name] + 2}

        with suppress(AssertionError):  # timers of connections end by themselves
            until(lambda: not more())
        assert more() == {}
        assert len(service.metrics.render().splitlines()) == series  # no labels from what clients send
        assert before["retrieveall.pipeline.RetrieveAll"] >= 1  # they were looked for
        # Each thread allocates from memory of its own: none is for requests.
        assert not [each.name for each in set(threading.enumerate()) - threads if "AnyIO" in each.name]


def test_memory_is_given_back_after_a_change(model_copy: Path, monkeypatch: Any) -> None:
    calls: list[None] = []
    monkeypatch.setattr(service_module, "give_back", lambda: calls.append(None))
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    with live(model, SETTINGS) as (url, _):
        assert httpx.delete(f"{url}/v1/languages/de", headers=ADMIN, timeout=60, trust_env=False).status_code == 200
    assert len(calls) == 1
    give_back()  # whatever the C library is
