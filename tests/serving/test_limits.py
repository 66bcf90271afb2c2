"""S1: what is too large, too deep or of the wrong type is refused with the reason, and never a 500."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest
from serving_fakes import FakeModel, live

from retrieveall.serving.settings import ServiceSettings

LIMITS = ServiceSettings(
    texts=4, stream_texts=8, characters=100, body_bytes=2000, body_seconds=1.0, seconds=0.5, hosts=("127.0.0.1",)
)
JSON = {"content-type": "application/json"}
WRONG: list[tuple[Any, int, str]] = [
    ({"texts": ["a"] * 5}, 413, "at most 4 texts, got 5"),
    ({"texts": "a" * 3000}, 413, "at most 2,000 bytes"),
    ({"texts": ["x", None]}, 422, "texts"),
    ({"texts": {"a": 1}}, 422, "texts"),
    ({"texts": 3}, 422, "texts"),
    ({}, 422, "texts"),
    ([], 422, ""),
    ("text", 422, ""),
    ({"texts": "a", "threshold": 1.5}, 422, "threshold"),
    ({"texts": "a", "threshold": "high"}, 422, "threshold"),
    ({"texts": "a", "labels": ["NOPE"]}, 422, "expected labels among PER, LOC"),
    ({"texts": "a", "labels": "PER"}, 422, "labels"),
    ({"texts": "a", "labels": ["PER"] * 600}, 413, "bytes"),
    ({"texts": "a", "language": "xx"}, 422, "expected one of the languages de, en"),
    ({"texts": ["a", "b"], "language": ["de"]}, 422, "one language per text (2), got 1"),
    ({"texts": "a", "language": ["../../etc"]}, 422, "expected one of the languages"),
    ({"texts": "a", "levels": ["none"]}, 422, "levels"),
    ({"texts": "a", "explian": True}, 422, "explian"),
]
RAW: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"null", 422),
    (b"{", 400),
    (b'{"texts": "a"', 400),
    (b"\xff\xfe", 400),
    (b'{"texts": "\\ud800"}', 400),  # a lone surrogate
    (b'{"texts": "a", "threshold": NaN}', 422),
    (b'{"texts": "a", "threshold": 1e999}', 422),
    (b"[" * 1500, 400),
    (b'{"texts":' * 200, 400),
    (b'{"texts": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}", 400),
]


@pytest.fixture(scope="module")
def limited() -> Any:
    with live(FakeModel(), LIMITS) as (url, _), httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/extract", "/v1/extract/stream"])
@pytest.mark.parametrize(("asked", "status", "reason"), WRONG, ids=[str(each[0])[:40] for each in WRONG])
def test_wrong_requests_are_refused_with_the_reason(
    limited: httpx.Client, path: str, asked: Any, status: int, reason: str
) -> None:
    if path.endswith("stream") and reason.startswith("at most 4"):
        asked, reason = {"texts": ["a"] * 9}, "at most 8 texts, got 9"
    if path.endswith("stream") and asked == {"texts": ["x", None]}:
        asked = {"texts": None}  # among others, it fails alone
    answer = limited.post(path, json=asked)
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize(("texts", "number"), [("a" * 101, 0), (["ok", "ü" * 101, "Anna"], 1)])
def test_a_text_that_is_too_long_is_named(limited: httpx.Client, texts: Any, number: int) -> None:
    """In a stream it costs the other texts nothing."""
    reason = f"expected texts of at most 100 characters, got 101 as text {number} of the list"
    answer = limited.post("/v1/extract", json={"texts": texts})
    assert answer.status_code == 413
    assert reason in answer.json()["detail"]
    lines = [json.loads(line) for line in limited.post("/v1/extract/stream", json={"texts": texts}).text.splitlines()]
    assert [line["index"] for line in lines] == list(range(1 if isinstance(texts, str) else len(texts)))
    assert [line["index"] for line in lines if "error" in line] == [number]
    assert reason in lines[number]["error"]
    if number:
        assert lines[2]["entities"][0]["text"] == "Anna"


@pytest.mark.parametrize(("body", "status"), RAW, ids=[str(each[0][:24]) for each in RAW])
def test_broken_bodies_are_refused(limited: httpx.Client, body: bytes, status: int) -> None:
    answer = limited.post("/v1/extract", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ({"texts": [1]}, "texts.0: expected a string, got an integer"),
        ({"texts": ["a", None, 2]}, "texts.1: expected a string, got null"),
        ({"texts": ["a", "b", ["c"]]}, "texts.2: expected a string, got a list"),
        ({"texts": 1.5}, "texts: expected a string or a list, got a number"),
        ({"texts": {"a": 1}}, "texts: expected a string or a list, got an object"),
        ({}, "texts: expected a value, got none"),
        ([], "expected an object, got a list"),
        ({"texts": "a", "language": ["de", True]}, "language.1: expected a string, got a boolean"),
        ({"texts": "a", "language": ""}, "language: expected at least 1 character, got none"),
        ({"texts": "a", "language": ["de", ""]}, "language.1: expected at least 1 character, got none"),
        ({"texts": "a", "labels": "PER"}, "labels: expected a list, got a string"),
        ({"texts": "a", "labels": ["PER", 1]}, "labels.1: expected a string, got an integer"),
        ({"texts": "a", "threshold": "high"}, "threshold: expected a number, got a string"),
        ({"texts": "a", "explain": 1}, "explain: expected true or false, got an integer"),
        ({"texts": "a", "levels": ["entity", "none"]}, "levels.1: expected 'entity' or 'context', got another string"),
        ({"texts": "a", "threshold": -1}, "threshold: expected at least 0, got a smaller number"),
        ({"texts": "a", "labels": ["P" * 99]}, "labels.0: expected at most 64 characters, got 99"),
    ],
)
def test_a_wrong_item_is_named(limited: httpx.Client, asked: Any, detail: str) -> None:
    """Without what pydantic calls the types that a field may have."""
    for path in ("/v1/extract", "/v1/extract/stream"):
        if path.endswith("stream") and detail.startswith("texts."):
            continue  # refused in its own line
        answer = limited.post(path, json=asked)
        assert (answer.status_code, answer.json()) == (422, {"detail": detail})


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/extract/stream", {}), ("/v1/extract", {"accept": "application/x-ndjson"})]
)
def test_in_a_stream_what_is_no_text_costs_the_others_nothing(
    limited: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    wrong = {1: (3, "an integer"), 2: (None, "null"), 3: (["Anna"], "a list"), 4: ({"id": 7}, "an object")}
    wrong |= {5: ("x" * 101, "101"), 6: (True, "a boolean")}
    texts = ["Anna", *(value for value, _ in wrong.values()), "Anna"]
    answer = limited.post(path, json={"texts": texts}, headers=headers)
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in lines] == list(range(8))
    assert [line["entities"][0]["text"] for line in (lines[0], lines[7])] == ["Anna", "Anna"]
    for number, (_, got) in wrong.items():
        assert f"got {got} as text {number} of the list (the first is 0); " in lines[number]["error"]
        assert lines[number]["entities"] == []


def test_nothing_that_was_sent_is_repeated_in_an_error(limited: httpx.Client) -> None:
    answer = limited.post("/v1/extract", json={"texts": {"geheim": "Geheimnis"}, "threshold": "Geheimnis"})
    assert answer.status_code == 422
    assert "Geheimnis" not in answer.text


def test_other_content_types_are_refused(limited: httpx.Client) -> None:
    """Also what a page elsewhere could make a browser send without asking."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = limited.post("/v1/extract", content=b'{"texts": "a"}', headers={"content-type": kind})
        assert answer.status_code == 415


def test_another_host_name_is_refused(limited: httpx.Client) -> None:
    """A page elsewhere whose name was pointed at this machine."""
    assert limited.get("/v1/model", headers={"host": "evil.example"}).status_code == 400
    assert limited.get("/healthz", headers={"host": "127.0.0.1:8080"}).status_code == 200


def test_a_body_without_a_length_is_limited_too(limited: httpx.Client) -> None:
    answer = limited.post("/v1/extract", content=(b" " * 500 for _ in range(50)), headers=JSON)
    assert answer.status_code == 413


def test_a_slow_body_is_ended(limited: httpx.Client) -> None:
    with socket.create_connection((limited.base_url.host, limited.base_url.port or 0), timeout=20) as connection:
        head = ["POST /v1/extract HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 900"]
        connection.sendall("\r\n".join([*head, "", "{"]).encode())
        started = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started < 15


def test_garbage_instead_of_http(limited: httpx.Client) -> None:
    for garbage in (b"\x00\xff\x16\x03\x01" * 50, b"GET\r\n\r\n", b"POST /v1/extract HTTP/9.9\r\n\r\n"):
        with socket.create_connection((limited.base_url.host, limited.base_url.port or 0), timeout=20) as connection:
            connection.sendall(garbage)
            assert b"500" not in connection.recv(4096).split(b"\r\n")[0]
    assert limited.get("/healthz").status_code == 200


def test_what_takes_too_long_is_ended() -> None:
    model = FakeModel(held=True)
    with live(model, LIMITS) as (url, service):
        asked: dict[str, Any] = {"texts": ["Anna", "Karl"]}
        answer = httpx.post(f"{url}/v1/extract", json=asked, timeout=30, trust_env=False)
        assert answer.status_code == 503
        assert "0.5 s" in answer.json()["detail"]
        assert answer.headers["retry-after"].isdigit()
        lines = httpx.post(f"{url}/v1/extract/stream", json=asked, timeout=30, trust_env=False).text.splitlines()
        assert ["0.5 s" in json.loads(line)["error"] for line in lines] == [True, True]
        model.go.set()
        assert httpx.post(f"{url}/v1/extract", json=asked, timeout=30, trust_env=False).status_code == 200
        assert service.batcher.waiting == 0


def test_unknown_routes_and_methods(limited: httpx.Client) -> None:
    assert limited.get("/nope").status_code == 404
    assert limited.get("/v1/extract").status_code == 405
    for path in ("/../pyproject.toml", "/%2e%2e/app.py", "/page/app.js", "/app.js/../index.html"):
        assert limited.get(path).status_code in (200, 404)  # the client shortens some of them
    assert "import" not in limited.get("/%2e%2e/app.py").text
