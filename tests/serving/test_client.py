"""The client: what the library returns, patience with a full server, clear errors, no torch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_fakes import FakeModel, live

from retrieveall.errors import EngineError, InputError
from retrieveall.serving.client import AsyncClient, Client
from retrieveall.serving.settings import KEY_VARIABLE
from retrieveall.types import Knowledge, Prediction

TEXTS = ["Anna war da", "", "👩‍👧 Karl"]


def told(**options: Any) -> list[Prediction]:
    return FakeModel().predict(TEXTS, language=[None] * 3, **options)


def test_it_returns_what_predict_returns(fake: tuple[Any, str, Any]) -> None:
    expected = told(levels=("entity",), keep_prompts=True)
    with Client(fake[1]) as client:
        assert client.extract(TEXTS, explain=True, levels=["entity"]) == expected
        assert client.extract(TEXTS[0])[0].entities == expected[0].entities
        assert client.extract(TEXTS)[0].knowledge == Knowledge()
        assert list(client.stream(TEXTS, explain=True, levels=["entity"])) == expected
        assert [each.route.reason for each in client.extract(TEXTS, language=["de", None, "en"])] == [
            "fixed", "vote", "fixed",
        ]  # fmt: skip
        assert client.extract("unknown")[0].route.language is None
        assert client.extract(TEXTS, labels=["LOC"])[0].entities == ()
        assert client.model().name == "fake"
        assert [each.language for each in client.languages()] == ["de", "en"]
        with pytest.raises(InputError, match="422: expected one of the languages"):
            client.extract("a", language="xx")
        with pytest.raises(InputError, match="403"):
            client.remove_language("de")
        with pytest.raises(EngineError, match="engine down"):
            client.extract(["engine"])
        with pytest.raises(EngineError, match="text 1: engine down"):
            list(client.stream(["Anna", "engine"]))


def test_the_asynchronous_one_does_the_same(fake: tuple[Any, str, Any]) -> None:
    async def use() -> None:
        async with AsyncClient(fake[1]) as client:
            assert await client.extract(TEXTS, explain=True) == told(levels=("entity", "context"), keep_prompts=True)
            assert [each async for each in client.stream(TEXTS, explain=True)] == await client.extract(
                TEXTS, explain=True
            )
            many = await asyncio.gather(*(client.extract(f"Name{i}") for i in range(40)))
            assert [each[0].entities[0].text for each in many] == [f"Name{i}" for i in range(40)]
            assert (await client.model()).labels[0].name == "PER"
            assert [each.language for each in await client.languages()] == ["de", "en"]
            with pytest.raises(InputError, match="422"):
                await client.extract("a", labels=["x"])
            with pytest.raises(InputError, match="403"):
                await client.remove_language("de")

    asyncio.run(use())


def scripted(statuses: list[int], seen: list[float], monkeypatch: pytest.MonkeyPatch) -> httpx.MockTransport:
    """A server that answers with these statuses in turn, and then well."""
    body = {"results": [{"entities": [], "language": None, "route": {"adapters": {}, "votes": {}, "reason": "vote"}}]}

    def answer(request: httpx.Request) -> httpx.Response:
        if not statuses:
            return httpx.Response(200, json=body)
        status = statuses.pop(0)
        return httpx.Response(status, json={"detail": "the queue is full"}, headers={"retry-after": "7"})

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    monkeypatch.setattr("retrieveall.serving.client.time.sleep", seen.append)
    monkeypatch.setattr("retrieveall.serving.client.asyncio.sleep", sleep)
    return httpx.MockTransport(answer)


Run = Callable[[httpx.MockTransport, int], Any]


def _sync(transport: httpx.MockTransport, retries: int) -> Any:
    return Client("http://test", retries=retries, transport=transport).extract("a")


def _async(transport: httpx.MockTransport, retries: int) -> Any:
    return asyncio.run(AsyncClient("http://test", retries=retries, transport=transport).extract("a"))


@pytest.mark.parametrize("run", [_sync, _async])
def test_it_repeats_when_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    assert len(run(scripted([429, 503], seen, monkeypatch), 4)) == 1
    assert seen == [7, 7]
    with pytest.raises(EngineError, match="429: the queue is full"):
        run(scripted([429] * 9, seen, monkeypatch), 2)
    assert len(seen) == 4
    with pytest.raises(InputError, match="422"):
        run(scripted([422], seen, monkeypatch), 4)
    assert len(seen) == 4


def test_errors_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="is 'retrieveall serve' running"):
        Client("http://127.0.0.1:9", timeout=5).extract("a")
    other = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
    with pytest.raises(EngineError, match="check the address"):
        Client("http://test", transport=other).extract("a")
    with pytest.raises(InputError, match="retries"):
        Client(retries=-1)


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"detail": "expected the API key"})

    monkeypatch.setenv(KEY_VARIABLE, "from-the-environment")
    for key in (None, "given-key"):
        with pytest.raises(InputError, match="401: expected the API key"):
            Client("http://test", key=key, transport=httpx.MockTransport(answer)).model()
    assert seen == ["Bearer from-the-environment", "Bearer given-key"]


def test_it_loads_neither_torch_nor_the_server() -> None:
    code = (
        "import sys, retrieveall.serving.client as c; c.Client('http://127.0.0.1:9').close();"
        "print([n for n in ('torch', 'transformers', 'fastapi', 'uvicorn', 'prometheus_client') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_against_a_busy_server() -> None:
    """Forty clients at a queue of four: all are served, since they come back when told."""
    from retrieveall.serving.settings import ServiceSettings

    async def use(url: str) -> list[Any]:
        async with AsyncClient(url, retries=50) as client:
            return await asyncio.gather(*(client.extract(f"Name{i}") for i in range(40)))

    with live(FakeModel(seconds=0.001), ServiceSettings(queue_texts=4, batch_texts=2)) as (url, _):
        found = asyncio.run(use(url))
    assert [each[0].entities[0].text for each in found] == [f"Name{i}" for i in range(40)]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (5, {}, "a list of texts, got int"),
    (b"a", {}, "got bytes"),
    (["a", None], {}, "as text 1"),
    ("a", {"threshold": 2}, "from 0 to 1"),
    ("a", {"threshold": float("nan")}, "from 0 to 1"),
    ("a", {"labels": 5}, "list of labels"),
    ("a", {"language": b"en"}, "got bytes"),
    (["a", "b"], {"language": ["en"]}, "one language per text"),
    ("a", {"levels": "entity"}, "list of levels"),
    ("a", {"languages": "en"}, "did you mean language"),
]


@pytest.mark.parametrize(("texts", "options", "said"), WRONG)
def test_wrong_values_are_refused_before_anything_is_sent(texts: Any, options: dict[str, Any], said: str) -> None:
    """There is no server; both clients say the same, also when they stream, at once."""
    client, other = Client("127.0.0.1:9"), AsyncClient("127.0.0.1:9")
    for call in (client.extract, client.stream, other.stream, lambda *a, **o: asyncio.run(other.extract(*a, **o))):
        with pytest.raises(InputError, match=said):
            call(texts, **options)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_addresses(kind: Any) -> None:
    for url in ("localhost:8000", "http://localhost:8000/"):
        assert str(kind(url)._http.base_url) == "http://localhost:8000"
    for url in ("ftp://x", "http://", 5, None, "a b", "http://u:hidden@h"):
        with pytest.raises(InputError, match="expected a server address") as caught:
            kind(url)
        assert "hidden" not in str(caught.value)
    with pytest.raises(InputError, match="retries"):
        kind(retries="4")


LONE = "\ud83d Merkel"
WRONG: list[tuple[Callable[[Client], Any], str]] = [
    (lambda c: c.extract([LONE]), "lone surrogate in text 0"),
    (lambda c: list(c.stream(["a", LONE])), "lone surrogate in text 1"),
    (lambda c: c.extract("a", labels=[LONE]), "lone surrogate in labels"),
    (lambda c: c.extract("a", language=LONE), "lone surrogate in language"),
    (lambda c: c.extract("a", explain="yes"), "explain as True or False"),  # type: ignore[arg-type]
    (lambda c: c.add_language("sw", "no/such.tar.gz"), "expected an archive at no.such.tar.gz"),
    (lambda c: c.add_language("sw", Path("no/such.tar.gz")), "expected an archive at no.such.tar.gz"),
    (lambda c: c.add_language("sw", 5), "the archive as a path, got int"),  # type: ignore[arg-type]
    (lambda c: c.add_language("sw", "a\0b"), "the archive as a path"),
    (lambda c: c.add_language("../sw", "a"), "a language identifier"),
    (lambda c: c.remove_language("ключ"), "a language identifier"),
    (lambda c: c.remove_language(5), "a language identifier"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("use", "said"), WRONG)
def test_wrong_values_are_errors_of_the_library(use: Callable[[Client], Any], said: str) -> None:
    nobody = httpx.MockTransport(lambda request: httpx.Response(500))
    with Client("http://test", transport=nobody) as client, pytest.raises(InputError, match=said) as caught:
        use(client)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        *[({"key": key}, "expected key") for key in ("ключ", "a\nb", "a\r", " a", "\ud83d", b"a", 5)],
        *[({"timeout": seconds}, "a positive timeout") for seconds in (float("inf"), float("nan"), 0, True)],
        ({"retries": True}, "retries"),
        ({"url": "http://\ud83d"}, "server address"),
    ],
)
def test_what_a_client_cannot_be_made_with(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        kind(**options)
    assert "ключ" not in str(caught.value)  # secrets are not shown


def test_a_key_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "ключ")
    with pytest.raises(InputError, match=KEY_VARIABLE):
        Client()


@pytest.mark.parametrize("host", ["xn--.de", "a" * 300 + ".de"])
def test_a_name_that_no_host_can_have(host: str) -> None:
    with pytest.raises(InputError, match="name of a host"):
        Client(f"http://{host}", timeout=5).extract("a")


def test_a_closed_client_says_so() -> None:
    client = Client("http://127.0.0.1:9")
    client.close()
    for use in (lambda: client.extract("a"), lambda: list(client.stream("a")), client.model):
        with pytest.raises(InputError, match="was closed; make another"):
            use()

    async def later() -> None:
        other = AsyncClient("http://127.0.0.1:9")
        await other.close()
        await other.extract("a")

    with pytest.raises(InputError, match="was closed; make another"):
        asyncio.run(later())


def test_numbers_and_levels_of_other_libraries(fake: tuple[Any, str, Any]) -> None:
    np = pytest.importorskip("numpy")
    with Client(fake[1]) as client:
        found = client.extract("Anna", threshold=np.float32(0.5), levels=(each for each in ["entity"]), explain=True)
    assert found[0].prompts == ("entity | Anna",)
