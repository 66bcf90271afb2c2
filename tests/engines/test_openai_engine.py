"""The engine ``openai`` against a real HTTP server on this machine, item by item with the engine in process."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from completions_server import BASE, CompletionsServer, Fault, TinyModel, serving

from retrieveall import RetrieveAll
from retrieveall.config import GenerationConfig, ModelConfig, dump_yaml, load_yaml
from retrieveall.decoders import Reading
from retrieveall.engines import Failure, ScoreRequest
from retrieveall.engines.remote.openai import OpenAIEngine
from retrieveall.engines.remote.requests import top_adapter
from retrieveall.engines.remote.settings import API_KEY_VARIABLE, ServerSettings
from retrieveall.errors import ConfigError, EngineError, InputError, MissingExtraError
from retrieveall.storage import Manifest
from retrieveall.types import AnswerFaults
from tiny import prepared, probabilities, requests_of

pytest.importorskip("httpx")

TEXTS = [
    "Anna Meier war in Köln .",
    "They say that (Intel) was not there !",
    "昨天李白上了报纸。",
    "Karl May in London",
]


@pytest.fixture(scope="module")
def tiny(tiny_repeat_model: Path) -> TinyModel:
    return TinyModel(tiny_repeat_model)


@pytest.fixture
def server(tiny: TinyModel) -> Iterator[CompletionsServer]:
    with serving(tiny) as running:
        yield running


def _engine(folder: Path, server: CompletionsServer, **options: Any) -> OpenAIEngine:
    config = load_yaml(ModelConfig, folder / "retrieveall.yaml")
    return OpenAIEngine(config, folder, ServerSettings(server.url, **{"retries": 2, "timeout": 20.0, **options}))


def _failure(engine: OpenAIEngine, requests: list[ScoreRequest]) -> str:
    """Why the only request failed."""
    [found] = engine.score(requests)
    assert isinstance(found, Failure)
    assert "\n" not in found.reason
    return found.reason


# -- the same as in process -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "processed", "knows_tokens"), [("vllm", False, True), ("vllm", True, True), ("sglang", True, False)]
)
def test_tags_as_in_process(
    tiny: TinyModel,
    tiny_repeat_model: Path,
    loaded_repeat: RetrieveAll,
    dialect: str,
    processed: bool,
    knows_tokens: bool,
) -> None:
    routes: list[dict[str, float]] = [{"de": 1.0}, {"en": 1.0}, {"zh": 1.0}, {}]
    requests = requests_of(loaded_repeat, [TEXTS[0]] * 4 + TEXTS, routes)
    with serving(tiny, dialect=dialect, processed=processed) as server:
        server.knows_tokens = knows_tokens
        found = _engine(tiny_repeat_model, server).score(requests)
    for ours, theirs in zip(found, loaded_repeat.engine.score(requests), strict=True):
        np.testing.assert_allclose(probabilities(ours), probabilities(theirs), atol=1e-3)
    assert {body["model"] for body in server.requests} == {"de", "en", "zh", BASE}


def test_predicts_as_in_process(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll, corpus: Any
) -> None:
    model = RetrieveAll.from_pretrained(tiny_repeat_model, server=server.url)
    texts = [each.text for sentences in corpus.values() for each in sentences[:2]] + ["Anna " * 30, "", " "]
    languages = ["de", "de", "en", "en", "zh", "zh", "de", None, None]
    ours = model.predict(texts, language=languages)
    theirs = loaded_repeat.predict(texts, language=languages)
    assert sum(len(each.entities) for each in theirs) > 5
    for mine, other in zip(ours, theirs, strict=True):
        assert [(e.start, e.end, e.label) for e in mine.entities] == [(e.start, e.end, e.label) for e in other.entities]
        np.testing.assert_allclose([e.score for e in mine.entities], [e.score for e in other.entities], atol=1e-3)
        assert mine.route == other.route


def test_of_a_mixture_runs_the_top_adapter(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll
) -> None:
    [request] = requests_of(loaded_repeat, TEXTS[:1], [{"de": 0.4, "en": 0.6}])
    [found] = _engine(tiny_repeat_model, server).score([request])
    [expected] = loaded_repeat.engine.score([replace(request, adapters={"en": 1.0})])
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-3)
    assert top_adapter({"b": 0.5, "a": 0.5}) == "a"
    assert top_adapter({"a": 0.0}) is None


def test_full_attention_is_refused(server: CompletionsServer, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="repeat"):
        _engine(tiny_model, server)


def test_scores_that_are_missing_are_an_error(
    tiny: TinyModel, tiny_repeat_model: Path, loaded_repeat: RetrieveAll
) -> None:
    """A server with raw log-probabilities that knows no ``logprob_token_ids`` tells the likeliest tokens only."""
    with serving(tiny) as server:
        server.knows_tokens = False
        why = _failure(_engine(tiny_repeat_model, server), requests_of(loaded_repeat, TEXTS[:1], "de"))
    assert "processed_logprobs" in why


# -- generation -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generating(tiny_repeat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote") / "model"
    shutil.copytree(tiny_repeat_model, folder)
    config = load_yaml(ModelConfig, folder / "retrieveall.yaml")
    decoder = GenerationConfig(spacing=config.decoder.spacing, max_answer_tokens=48)
    prompt = config.prompt.model_copy(update={"template": "answer.v1", "max_tokens": 512})
    changed = config.model_copy(update={"decoder": decoder, "prompt": prompt})
    (folder / "retrieveall.yaml").write_text(dump_yaml(changed), encoding="utf-8")
    Manifest.of(folder).write()
    return folder


def _read(model: RetrieveAll, engine: Any, texts: list[str]) -> list[Reading]:
    """What the model reads in the answers of an engine."""
    found = model.decoder.decode(engine, *prepared(model, texts, [{"en": 1.0}, {"de": 1.0}, {"zh": 1.0}]))
    assert all(isinstance(each, Reading) for each in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_generates_as_in_process(tiny: TinyModel, generating: Path, dialect: str) -> None:
    pytest.importorskip("llguidance")
    texts = [text for text in TEXTS for _ in range(3)]
    local = RetrieveAll.from_pretrained(generating, device="cpu")
    with serving(tiny, dialect=dialect, processed=True) as server:
        found = _read(local, _engine(generating, server), texts)
        requests = requests_of(local, texts, "de")
        written = _engine(generating, server).write(requests)
    assert [each.answer for each in written] == [each.answer for each in local.engine.write(requests)]
    expected = _read(local, local.engine, texts)
    assert sum(len(each.spans) for each in expected) >= 1
    for ours, theirs, text in zip(found, expected, texts, strict=True):
        assert ours.faults == theirs.faults == AnswerFaults()
        assert [span[:3] for span in ours.spans] == [span[:3] for span in theirs.spans], text
        np.testing.assert_allclose([s[3] for s in ours.spans], [s[3] for s in theirs.spans], atol=1e-3)
    field = "structured_outputs" if dialect == "vllm" else "ebnf"
    assert all(field in body for body in server.requests)


def test_without_guided_decoding_answers_are_read_afterwards(tiny: TinyModel, generating: Path) -> None:
    local = RetrieveAll.from_pretrained(generating, device="cpu")
    codec, log_prob = local.engine.codec, -0.1
    tokens = [*codec.plain("LOC Köln\nPER Nobody\nXYZ war\nbla\nPER Anna Meier"), 1]

    def write(answer: dict[str, Any]) -> None:
        told = [f"token_id:{token}" for token in tokens]
        logprobs = {"tokens": told, "token_logprobs": [log_prob] * len(told), "top_logprobs": [{}] * len(told)}
        answer["choices"][0].update(finish_reason="stop", logprobs=logprobs)

    with serving(tiny) as server:
        server.faults = [Fault(change=write)]
        [found] = _read(local, _engine(generating, server, guidance="off"), TEXTS[:1])
    assert not any("structured_outputs" in body or "ebnf" in body for body in server.requests)
    assert found.faults == AnswerFaults(1, 1, 1)
    assert [span[:3] for span in found.spans] == [(0, 10, "PER"), (18, 22, "LOC")]
    for span, line in zip(found.spans, ("PER Anna Meier", "LOC Köln"), strict=True):
        ends = 1  # the end of the answer, or the line break
        assert np.log(span[3]) == pytest.approx(log_prob * (len(codec.plain(line)) + ends), abs=0.1)


def test_a_free_answer_without_an_end_counts_as_malformed(tiny: TinyModel, generating: Path) -> None:
    """As in process: the line that the limit of tokens cut off is not read, and does not go unnoticed."""
    local = RetrieveAll.from_pretrained(generating, device="cpu")
    tokens = local.engine.codec.plain("PER Anna Meier\nLOC Kö")

    def write(answer: dict[str, Any]) -> None:
        told = [f"token_id:{token}" for token in tokens]
        logprobs = {"tokens": told, "token_logprobs": [-0.1] * len(told), "top_logprobs": [{}] * len(told)}
        answer["choices"][0].update(finish_reason="length", logprobs=logprobs)

    for guidance, malformed in (("off", 1), ("structured_outputs", 0)):
        with serving(tiny) as server:
            server.faults = [Fault(change=write)]
            [found] = _read(local, _engine(generating, server, guidance=guidance), TEXTS[:1])
        assert [span[:3] for span in found.spans] == [(0, 10, "PER")]
        assert found.faults == AnswerFaults(malformed), guidance


def test_another_server_is_not_sent_a_grammar(tiny: TinyModel, generating: Path) -> None:
    with serving(tiny, dialect="other") as server:
        assert _engine(generating, server).guidance() == "off"


# -- what may go wrong ------------------------------------------------------------------------------------------------


def test_429_waits_as_long_as_asked(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll
) -> None:
    server.faults = [Fault(429, {"Retry-After": "1"}, b'{"error": {"message": "slow down"}}')]
    _engine(tiny_repeat_model, server).score(requests_of(loaded_repeat, TEXTS[3:], "de"))
    assert len(server.times) == 2
    assert server.times[1] - server.times[0] >= 1.0


def test_500_twice_then_fine(server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    requests = requests_of(loaded_repeat, TEXTS[3:], "de")
    server.faults = [Fault(500, times=2)]
    [found] = _engine(tiny_repeat_model, server).score(requests)
    [expected] = loaded_repeat.engine.score(requests)
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-3)
    assert len(server.requests) == 3
    first, second = np.diff(server.times)
    assert 0.2 <= first <= second * 2  # each wait is twice the one before, give or take a half
    server.faults = [Fault(500, times=3)]
    assert re.search(r"answered 500.*3 attempts", _failure(_engine(tiny_repeat_model, server), requests))


def test_a_server_that_hangs(server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    requests = requests_of(loaded_repeat, TEXTS, "de")
    server.faults = [Fault(sleep=1.0, times=9)]
    begun = time.monotonic()
    engine = _engine(tiny_repeat_model, server, timeout=0.2, retries=0, concurrency=1)
    found = engine.score(requests)
    assert time.monotonic() - begun < 0.9
    assert all(isinstance(each, Failure) for each in found)
    assert "did not answer within 0.2 s" in found[0].reason
    assert "not sent" in found[3].reason


def test_connection_refused(tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    config = load_yaml(ModelConfig, tiny_repeat_model / "retrieveall.yaml")
    engine = OpenAIEngine(config, tiny_repeat_model, ServerSettings(url, retries=1))
    with pytest.raises(EngineError, match=r"could not reach .*is the server running\?.*2 attempts"):
        engine.score(requests_of(loaded_repeat, TEXTS[:1], "de"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(body=b"<html>hello"), "expected a JSON object"),
        (Fault(body=b"[1]"), "expected a JSON object"),
        (Fault(body=b"[" * 100_000), "expected a JSON object"),
        (Fault(body=b"{}"), "choices"),
        (Fault(change=lambda answer: answer["choices"].pop()), "choices"),
        (Fault(change=lambda answer: answer["choices"][0].update(index=17)), "choices"),
        (Fault(change=lambda answer: answer["choices"][0].update(logprobs=None)), "logprobs"),
        (Fault(change=lambda answer: answer["choices"][0]["logprobs"].update(tokens=[])), "token_logprobs"),
        (Fault(change=lambda answer: answer["choices"][0]["logprobs"].update(top_logprobs=[{}])), "no score"),
        (Fault(change=lambda answer: _spoil(answer, float("nan"))), "log-probability"),
        (Fault(change=lambda answer: _spoil(answer, "much")), "log-probability"),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}), "redirects"),
        (Fault(status=400, body=b'{"error": {"message": "too\\u0000 long"}}'), "answered 400: too  long"),
        (Fault(body=b" " * 300_000), "more than 200000 bytes"),
    ],
)
def test_answers_that_are_none(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll, fault: Fault, message: str
) -> None:
    server.faults = [replace(fault)]
    requests = requests_of(loaded_repeat, TEXTS[3:], "de")
    assert message in _failure(_engine(tiny_repeat_model, server, max_bytes=200_000), requests)
    assert len(server.requests) == 1  # not again, what would come out the same


def _spoil(answer: dict[str, Any], value: Any) -> None:
    top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    top[next(iter(top))] = value


def test_one_bad_item_among_many(server: CompletionsServer, tiny_repeat_model: Path) -> None:
    model = RetrieveAll.from_pretrained(tiny_repeat_model, server=ServerSettings(server.url, retries=0))
    texts = [*TEXTS, "Anna " * 40]  # the last is cut into windows
    whole = model.predict(texts, language="de")
    bad = _longest(server.requests[0])
    server.faults = [Fault(400, body=b'{"message": "no"}', when=lambda body: _longest(body) == bad)]
    with pytest.raises(EngineError, match=r"1 of 5 texts failed: text \d: .*answered 400: no") as caught:
        model.predict(texts, language="de")
    (number,) = caught.value.failures
    for index, prediction in enumerate(caught.value.results):
        if index == number:
            assert prediction is None
        else:
            assert prediction.entities == whole[index].entities


@pytest.mark.parametrize("kind", ["score", "write"])
def test_one_request_that_fails_is_a_failure_in_its_place(
    tiny: TinyModel, tiny_repeat_model: Path, generating: Path, kind: str
) -> None:
    folder = tiny_repeat_model if kind == "score" else generating
    local = RetrieveAll.from_pretrained(folder, device="cpu")
    requests = requests_of(local, TEXTS, "de")
    bad = list(requests[2].ids)
    with serving(tiny, processed=True) as server:
        engine = _engine(folder, server, retries=0)
        whole = getattr(engine, kind)(requests)
        server.faults = [Fault(400, body=b'{"message": "no"}', when=lambda body: _begins(bad, _longest(body)))]
        found = getattr(engine, kind)(requests)
    assert not server.faults
    for number, (before, after) in enumerate(zip(whole, found, strict=True)):
        if number == 2:
            assert isinstance(after, Failure)
            assert "answered 400: no" in after.reason
        elif kind == "score":
            np.testing.assert_array_equal(before, after)
        else:
            assert before == after


def _begins(whole: list[int], part: list[int]) -> bool:
    return whole[: len(part)] == part


def _longest(body: dict[str, Any]) -> list[int]:
    prompts: list[Any] = body["prompt"]
    longest: list[int] = max(prompts, key=len) if isinstance(prompts[0], list) else prompts
    return longest


def test_a_wrong_name(server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    requests = requests_of(loaded_repeat, TEXTS[3:], "de")
    named = _engine(tiny_repeat_model, server, adapters="ner-{language}")
    assert "The model `ner-de` does not exist" in _failure(named, requests)
    server.requests.clear()
    elsewhere = [replace(request, adapters={"fr": 1.0}) for request in requests]
    why = _failure(_engine(tiny_repeat_model, server), elsewhere)
    assert re.search(r"expected the adapter 'fr' on the server, it has 'de', 'en'.*--lora-modules", why)
    assert not server.requests
    [renamed] = _engine(tiny_repeat_model, server, adapters={"fr": "de"}).score(elsewhere)
    assert server.requests[-1]["model"] == "de"
    assert renamed.shape == (len(requests[0].positions), 13)


def test_the_key_is_sent_and_never_shown(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_of(loaded_repeat, TEXTS[3:], "de")
    server.key = "s3cret-key"
    monkeypatch.setenv(API_KEY_VARIABLE, "s3cret-key")
    assert not isinstance(_engine(tiny_repeat_model, server).score(requests)[0], Failure)
    server.key = "another"
    with pytest.raises(
        EngineError, match=rf"answered 401: wrong key in Bearer \*\*\*; set api_key or {API_KEY_VARIABLE}"
    ):
        _engine(tiny_repeat_model, server).score(requests)
    assert "s3cret" not in repr(ServerSettings(server.url, api_key="s3cret-key"))
    monkeypatch.delenv(API_KEY_VARIABLE)
    server.key = None
    _engine(tiny_repeat_model, server).score(requests)
    assert "Authorization" not in server.last_headers


def test_no_more_requests_at_once_than_allowed(
    server: CompletionsServer, tiny_repeat_model: Path, loaded_repeat: RetrieveAll
) -> None:
    server.faults = [Fault(sleep=0.03, change=lambda answer: None, times=99)]
    _engine(tiny_repeat_model, server, concurrency=2).score(requests_of(loaded_repeat, [*TEXTS, *TEXTS], "de"))
    assert server.most_active == 2


@pytest.mark.parametrize(
    "options",
    [
        {"url": "local host:8000"},
        {"url": 8000},
        {"url": ""},
        {"url": "ftp://host"},
        {"url": "http://"},
        {"url": "http://host:port"},
        {"url": "http://user:hidden@host"},
        {"url": "http://host/v1?key=1"},
        {"url": "http://host", "adapters": "ner"},
        {"url": "http://host", "concurrency": 0},
        {"url": "http://host", "timeout": 0.0},
        {"url": "http://host", "guidance": "json"},
        {"url": "http://host", "api_key": "a\nb"},
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        ServerSettings(**options)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "http://localhost:8000", "http://localhost:8000/v1/"])
def test_an_address_needs_no_protocol(url: str) -> None:
    assert ServerSettings(url).address == "http://localhost:8000/v1"


def test_without_httpx_the_error_says_how_to_install_it(
    tiny_repeat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[server-client\]'"):
        RetrieveAll.from_pretrained(tiny_repeat_model, server="http://localhost:8000")


def test_addresses() -> None:
    assert ServerSettings("http://h:1").address == "http://h:1/v1"
    assert ServerSettings("https://h/llm/v1/").address == "https://h/llm/v1"
