"""S5: every route asks for the key, and nothing that was sent is logged."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cli_runner import run_cli
from fastapi.routing import APIRoute
from serving_fakes import FakeModel, live

from retrieveall.config import parse_config
from retrieveall.errors import ConfigError
from retrieveall.serving.app import create_app
from retrieveall.serving.gate import OPEN
from retrieveall.serving.settings import ADMIN_VARIABLE, KEY_VARIABLE, ServiceSettings, read_secrets

KEY, ADMIN = "key-of-the-test", "admin-of-the-test"
SETTINGS = parse_config(ServiceSettings, {"key": KEY, "admin_token": ADMIN}, "test")


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    with live(FakeModel(), SETTINGS) as (url, _), httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client


def routes() -> list[tuple[str, str]]:
    """All of the application's, so that a new one cannot be forgotten."""
    found = [route for route in create_app(FakeModel()).routes if hasattr(route, "methods")]
    assert len([route for route in found if isinstance(route, APIRoute)]) > 10
    pairs = [(method, route.path.replace("{language}", "de")) for route in found for method in sorted(route.methods)]  # type: ignore[attr-defined]
    return [*pairs, ("GET", "/nope"), ("POST", "/")]


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_asks_for_the_key(guarded: httpx.Client, method: str, path: str) -> None:
    for headers in (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": KEY},
        {"authorization": "Basic ???"},
        {"authorization": "Bearer \xff\xfe"},
        {"x-api-key": KEY},
    ):
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = guarded.request(method, path, headers=raw)
        expected = 200 if path in OPEN and method != "HEAD" else 401
        assert answer.status_code in {expected, 405} if path in OPEN else answer.status_code == 401
        if answer.status_code == 401:
            assert "Bearer" in answer.text or method == "HEAD"


def test_the_key_opens_all_but_changes(guarded: httpx.Client) -> None:
    with_key = {"authorization": f"Bearer {KEY}"}
    password = {"authorization": "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()}
    for headers in (with_key, password):
        assert guarded.get("/", headers=headers).status_code == 200
        assert guarded.post("/v1/extract", json={"texts": "Anna"}, headers=headers).status_code == 200
        assert guarded.delete("/v1/languages/de", headers=headers).status_code == 401
        assert guarded.put("/v1/languages/sw", content=b"x", headers=headers).status_code == 401


def test_changes_are_off_without_a_token() -> None:
    with live(FakeModel()) as (url, _), httpx.Client(base_url=url, trust_env=False) as client:
        for answer in (client.delete("/v1/languages/de"), client.put("/v1/languages/sw", content=b"x")):
            assert answer.status_code == 403
            assert ADMIN_VARIABLE in answer.json()["detail"]


def test_answers_are_kept_by_nobody(guarded: httpx.Client) -> None:
    """Two users with the same text: each is computed, and no proxy may store an answer."""
    headers = {"authorization": f"Bearer {KEY}"}
    answers = [guarded.post("/v1/extract", json={"texts": "Anna"}, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    for answer in [*answers, guarded.get("/", headers=headers)]:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_no_text_and_no_key_is_logged(
    guarded: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"authorization": f"Bearer {KEY}"}
    secret = "Geheimnis"
    asks: list[dict[str, Any]] = [
        {"json": {"texts": secret}},
        {"json": {"texts": "bug"}},  # the model raises an error that quotes the text
        {"json": {"texts": [secret, "bug", "engine", "poison"]}},
        {"json": {"texts": secret, "language": secret}},
        {"json": {"texts": secret, "labels": [secret]}},
        {"json": {secret: 1}},
        {"content": secret.encode()},
        {"json": {"texts": secret}, "params": {"text": secret}},
    ]
    for path in ("/v1/extract", "/v1/extract/stream"):
        statuses = [guarded.post(path, headers=headers, **each).status_code for each in asks]
        assert statuses[0] == 200
    guarded.get(f"/{secret}", params={"q": secret}, headers=headers)
    guarded.get("/v1/model", headers={"authorization": f"Bearer wrong{secret}"})
    metrics = guarded.get("/metrics", headers=headers).text
    out, err = capfd.readouterr()
    records = [record for record in caplog.records if not record.name.startswith("http")]  # this test's own client
    seen = "\n".join(f"{each.name} {each.getMessage()} {each.exc_text or ''} {each.exc_info}" for each in records)
    assert "POST /v1/extract 200" in seen
    assert "ZeroDivisionError at" in seen
    lines = "\n".join((seen, out, err, metrics)).splitlines()
    assert [line for line in lines if any(each in line for each in (secret, KEY, ADMIN))] == []


def test_secrets_come_from_the_environment_and_are_not_shown() -> None:
    assert read_secrets({KEY_VARIABLE: KEY, ADMIN_VARIABLE: "", "PATH": "x"}) == {"key": KEY}
    assert KEY not in repr(SETTINGS)
    for wrong in ("short", "with blank in it", "ümläut-key", "line\nbreak-key"):
        with pytest.raises(ConfigError, match="key: expected at least 8 printable"):
            parse_config(ServiceSettings, {"key": wrong}, "serve")


def test_loopback_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command listens on this machine alone, under its own names; else it warns if there is no key."""
    from retrieveall.cli import serve as module

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "_open", lambda *args: FakeModel())
    monkeypatch.setattr(
        "retrieveall.serving.server.serve", lambda model, settings, **k: calls.append({"s": settings, **k})
    )
    assert run_cli("serve").exit_code == 0
    assert calls[0]["host"] == "127.0.0.1"
    assert "localhost" in calls[0]["s"].hosts
    assert calls[0]["s"].key is calls[0]["s"].admin_token is None
    open_to_all = run_cli("serve", "--host", "0.0.0.0")
    assert "no API key" in open_to_all.output
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    keyed = run_cli("serve", "--host", "0.0.0.0")
    assert "no API key" not in keyed.output
    assert KEY not in keyed.output
    assert calls[2]["s"].key.get_secret_value() == KEY
