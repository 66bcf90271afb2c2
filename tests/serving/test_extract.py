"""Texts over HTTP: the same entities as from the library, in order, with offsets in code points."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving_fakes import FakeModel, live, until

from retrieveall.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

_PATIENCE = 60.0
"""Seconds for what takes milliseconds, but on a machine that others use; no test waits so long if it passes."""
HARD = ["👩‍👩‍👧 Anna 𝕏 Köln", "e\u0301 Zoe\u0308", "مرحبا بالعالم Ada", "王小明在北京。", "", "a\tb\nC"]


def spans(entities: Any) -> list[tuple[int, int, str, str]]:
    return [(each["start"], each["end"], each["label"], each["text"]) for each in entities]


def test_one_text_or_many(http: httpx.Client) -> None:
    one = http.post("/v1/extract", json={"texts": "Anna war da"})
    assert one.status_code == 200
    assert one.json()["results"] == http.post("/v1/extract", json={"texts": ["Anna war da"]}).json()["results"]
    assert one.json()["results"][0]["entities"] == [
        {"start": 0, "end": 4, "label": "PER", "text": "Anna", "score": 0.9}
    ]
    assert http.post("/v1/extract", json={"texts": []}).json() == {"results": []}


def test_offsets_are_code_points(http: httpx.Client) -> None:
    for text, result in zip(HARD, http.post("/v1/extract", json={"texts": HARD}).json()["results"], strict=True):
        for start, end, _, mention in spans(result["entities"]):
            assert text[start:end] == mention


def test_options_apply_to_their_own_request(http: httpx.Client) -> None:
    texts = ["Anna", "Karl"]
    found = http.post("/v1/extract", json={"texts": texts, "language": ["de", None]}).json()["results"]
    assert [each["route"]["reason"] for each in found] == ["fixed", "vote"]
    assert http.post("/v1/extract", json={"texts": "Anna", "labels": ["LOC"]}).json()["results"][0]["entities"] == []
    assert http.post("/v1/extract", json={"texts": "Anna", "threshold": 0.95}).json()["results"][0]["entities"] == []
    plain = http.post("/v1/extract", json={"texts": "Anna"}).json()["results"][0]
    assert "knowledge" not in plain
    assert "prompts" not in plain
    shown = http.post("/v1/extract", json={"texts": "Anna", "explain": True, "levels": ["entity"]}).json()["results"][0]
    assert shown["prompts"] == ["entity | Anna"]
    assert shown["knowledge"]["neighbours"][0]["sentence"]["text"] == "Anna war da."
    assert shown["knowledge"]["entities"][0]["counts"] == {"de": {"PER": 2}}


@pytest.mark.parametrize("route", ["/v1/extract", "/v1/extract/stream"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": True},
        {"threshold": "0.5"},
        {"explain": "yes"},
        {"explain": 1},
        {"texts": [5]},
        {"texts": [True]},
        {"texts": None},
        {"language": 1},
        {"labels": "PER"},
        {"labels": [1]},
        {"levels": "entity"},
        {"levels": {"entity": 1}},
    ],
)
def test_a_wrong_type_is_refused_as_in_python(http: httpx.Client, route: str, wrong: dict[str, Any]) -> None:
    answer = http.post(route, json={"texts": ["x"]} | wrong)
    if route.endswith("stream") and isinstance(wrong.get("texts"), list):
        assert json.loads(answer.text)["error"].startswith("expected a string, got ")  # in its own line
        return
    assert answer.status_code == 422
    assert next(iter(wrong)) in answer.json()["detail"]


def test_a_whole_number_is_a_threshold(http: httpx.Client) -> None:
    for threshold, expected in ((0, 1), (1, 0), (None, 1)):
        answer = http.post("/v1/extract", json={"texts": "Anna", "threshold": threshold, "levels": []}).json()
        assert len(answer["results"][0]["entities"]) == expected


def test_thresholds_of_the_model_are_for_requests_without_one() -> None:
    model = FakeModel()
    model.config = model.config.model_copy(update={"sentence_threshold": 0.95})
    with live(model) as (url, _), httpx.Client(base_url=url) as client:
        assert client.get("/v1/model").json()["sentence_threshold"] == 0.95
        for threshold, expected in ((None, 0), (0.0, 1), (0.9, 1), (0.95, 0)):
            request = {"texts": "Anna", "threshold": threshold}
            assert len(client.post("/v1/extract", json=request).json()["results"][0]["entities"]) == expected
            lines = client.post("/v1/extract/stream", json={**request, "texts": ["Anna"]}).text.splitlines()
            assert len(json.loads(lines[0])["entities"]) == expected


def test_many_requests_share_batches() -> None:
    model = FakeModel(held=True)
    with live(model, ServiceSettings(batch_texts=16, seconds=600)) as (url, service), ThreadPoolExecutor(25) as threads:

        def post(number: int) -> httpx.Response:
            return httpx.post(f"{url}/v1/extract", json={"texts": f"Name{number}"}, timeout=None, trust_env=False)

        calls = [threads.submit(post, 0)]
        try:
            assert model.entered.wait(_PATIENCE)  # it is held back in a batch of its own, until all others wait
            calls += [threads.submit(post, number) for number in range(1, 25)]
            until(lambda: service.batcher.waiting == 24, _PATIENCE)
        finally:
            model.go.set()
        for number, call in enumerate(calls):
            assert call.result().json()["results"][0]["entities"][0]["text"] == f"Name{number}"
    assert model.batches == [1, 16, 8]


def test_a_long_list_does_not_hold_up_a_short_one() -> None:
    model = FakeModel(held=True)
    with live(model, ServiceSettings(batch_texts=4)) as (url, service), ThreadPoolExecutor(2) as threads:
        long = threads.submit(
            httpx.post, f"{url}/v1/extract", json={"texts": ["long"] * 64}, timeout=30, trust_env=False
        )
        assert model.entered.wait(20)
        short = threads.submit(httpx.post, f"{url}/v1/extract", json={"texts": "short"}, timeout=30, trust_env=False)
        until(lambda: service.batcher.waiting >= 61)
        model.go.set()
        assert (long.result().status_code, short.result().status_code) == (200, 200)
    assert model.computed.index("short") < 9


def test_a_text_that_the_model_refuses_spoils_only_its_request() -> None:
    model = FakeModel(held=True)
    texts = ["Anna", "poison", "Karl", "bug", "engine", "Eva"]
    with live(model) as (url, _), ThreadPoolExecutor(6) as threads:
        calls = [
            threads.submit(httpx.post, f"{url}/v1/extract", json={"texts": text}, timeout=30, trust_env=False)
            for text in texts
        ]
        assert model.entered.wait(20)
        model.go.set()
        answers = {text: call.result() for text, call in zip(texts, calls, strict=True)}
    assert {text: answer.status_code for text, answer in answers.items()} == {
        "Anna": 200, "Karl": 200, "Eva": 200, "poison": 422, "bug": 500, "engine": 502,
    }  # fmt: skip
    assert "refuses" in answers["poison"].json()["detail"]
    assert "Geheimnis" not in answers["bug"].text


@pytest.mark.parametrize("path", ["/v1/extract/stream", "/v1/extract"])
def test_a_stream_has_one_line_a_text_in_order(http: httpx.Client, path: str) -> None:
    texts = [f"Name{i} x" for i in range(150)]
    texts[70], texts[80] = "engine", "bug"
    answer = http.post(path, json={"texts": texts}, headers={"accept": "application/x-ndjson"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in lines] == list(range(150))
    for text, line in zip(texts, lines, strict=True):
        if text in ("engine", "bug"):
            assert ("engine down" if text == "engine" else "internal error") in line["error"]
        else:
            assert [each["text"] for each in line["entities"]] == [text.split()[0]]


def test_the_language_is_always_there(http: httpx.Client) -> None:
    texts = ["Anna", "unknown"]
    found = http.post("/v1/extract", json={"texts": texts}).json()["results"]
    assert [each["language"] for each in found] == ["en", None]
    assert all(each.keys() == {"entities", "language", "route"} for each in found)
    streamed = http.post("/v1/extract/stream", json={"texts": [*texts, "engine"]}).text.splitlines()
    *lines, failed = map(json.loads, streamed)
    assert [each["language"] for each in lines] == ["en", None]
    assert all(each.keys() == {"entities", "language", "route", "index"} for each in lines)
    assert failed["language"] is None


def test_a_stream_never_fills_the_queue() -> None:
    model = FakeModel(held=True)
    with live(model) as (url, service), ThreadPoolExecutor(1) as threads:
        call = threads.submit(
            httpx.post, f"{url}/v1/extract/stream", json={"texts": ["a"] * 2000}, timeout=30, trust_env=False
        )
        assert model.entered.wait(20)
        assert service.batcher.waiting <= 64
        model.go.set()
        assert len(call.result().text.splitlines()) == 2000


def test_the_entities_are_those_of_the_library(
    loaded: RetrieveAll, mixed_texts: list[str], without_scores: Callable[[Any], Any]
) -> None:
    """Texts of several languages, from many clients at once."""
    texts = [*mixed_texts, *HARD] * 2
    languages = [None, "de", "zh", None, "en"] * len(texts)
    expected = [loaded.predict([text], language=language)[0] for text, language in zip(texts, languages, strict=False)]
    with live(loaded) as (url, _), ThreadPoolExecutor(12) as threads:

        def ask(number: int) -> Any:
            asked = {"texts": texts[number], "language": languages[number]}
            answer = httpx.post(f"{url}/v1/extract", json=asked, timeout=120, trust_env=False)
            return answer.json()["results"][0]

        found = list(threads.map(ask, range(len(texts))))
    for text, wanted, got in zip(texts, expected, found, strict=True):
        assert spans(got["entities"]) == [(e.start, e.end, e.label, e.text) for e in wanted.entities]
        assert got["language"] == wanted.route.language
        assert all(text[start:end] == mention for start, end, _, mention in spans(got["entities"]))
        for one, other in zip(got["entities"], wanted.entities, strict=True):
            assert one["score"] == pytest.approx(other.score, abs=1e-3)
    assert any(each.entities for each in expected)


def test_levels_are_left_out_of_the_prompt(loaded: RetrieveAll) -> None:
    """``predict`` itself: what a level shows is in the prompt with it, and not without."""
    text = "Anna Meier wurde gestern in der Zeitung erwähnt ."
    both = loaded.predict([text], keep_prompts=True)[0]
    assert both.knowledge.entities
    assert both.knowledge.neighbours
    lengths = {
        levels: len(loaded.predict([text], levels=levels, keep_prompts=True)[0].prompts[0])
        for levels in [(), ("entity",), ("context",), ("entity", "context")]
    }
    assert lengths[()] < lengths[("entity",)] < lengths[("entity", "context")] == len(both.prompts[0])
    assert lengths[()] < lengths[("context",)] < lengths[("entity", "context")]
    assert loaded.predict([text])[0].prompts == ()
