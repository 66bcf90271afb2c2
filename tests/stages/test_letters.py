"""Windows without a letter, in which no entity is allowed: the model does not run on them, and nothing else changes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.data import normalise, segment
from retrieveall.engines import ScoreRequest
from retrieveall.stages import Window, windows_to_run
from retrieveall.types import Route

LETTERLESS = [
    "1234 5678",
    "🙂🙂 🎉 ❤️",
    "?!",
    "…",
    "١٢٣ ٤٥",
    "+49 (0)30 1234-567",
    "12.5 % | 3 = 4",
    "7 " * 3000,
    "1" * 20_000,
]


@pytest.fixture
def asked(loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> list[ScoreRequest]:
    """What the engine is asked for."""
    requests: list[ScoreRequest] = []
    score = loaded.engine.score

    def counted(some: Sequence[ScoreRequest]) -> list[Any]:
        requests.extend(some)
        return score(some)

    monkeypatch.setattr(loaded.engine, "score", counted)
    return requests


@pytest.mark.parametrize("text", LETTERLESS, ids=range(len(LETTERLESS)))
def test_the_model_does_not_run(loaded: RetrieveAll, asked: list[ScoreRequest], text: str) -> None:
    [told] = loaded.predict(text, language="de")
    [routed] = loaded.predict(text)
    assert asked == []
    assert (told.text, told.entities, told.route.adapters, told.route.reason) == (text, (), {"de": 1.0}, "fixed")
    assert (routed.text, routed.entities, routed.route) == (text, (), Route(reason="no_letters"))


@pytest.mark.parametrize("text", ["!!!", "🙂", "", " ", "12:30"])
def test_no_output_claims_a_language_for_a_text_without_letters(loaded: RetrieveAll, text: str) -> None:
    """Plain data, tables, pages and the service: all say that there is none."""
    from retrieveall.cli.render.html import HtmlRenderer
    from retrieveall.cli.render.jsonl import JsonlRenderer
    from retrieveall.cli.render.separated import SeparatedRenderer
    from retrieveall.serving.schema import fields_of

    [prediction] = loaded.predict(text)
    empty = {"adapters": {}, "votes": {}, "reason": "no_letters"}
    written = json.loads(JsonlRenderer().item(prediction, {}))
    for plain in (prediction.to_dict(), written, fields_of(prediction, explain=True)):
        assert plain["language"] is None
        assert plain["route"] in (empty, Route(reason="no_letters"))
    assert prediction.to_rows()[0]["language"] is None
    table = SeparatedRenderer(",")
    rows = list(csv.DictReader(io.StringIO(table.head() + table.item(prediction, {}))))
    assert [row["language"] for row in rows] == [""]
    page = HtmlRenderer(loaded.labels).item(prediction, {})
    assert ("no letters, the model did not run" in page) == bool(text.strip()), "a page leaves out blank texts"
    assert "backbone" not in page


def test_a_text_some_of_whose_windows_have_no_letters(loaded: RetrieveAll) -> None:
    [alone] = loaded.predict("Karl May in London")  # as in the other text, a window of its own
    [mixed] = loaded.predict("Karl May in London\n\n" + "7 " * 3000)
    assert (mixed.route.adapters, mixed.route.reason) == (alone.route.adapters, alone.route.reason)


def test_other_texts_of_the_batch_are_as_alone(loaded: RetrieveAll, asked: list[ScoreRequest]) -> None:
    texts = ["Karl May in London", "1234", "北京", "🙂", "Ulm 12"]
    found = loaded.predict(texts)
    assert len(asked) == 3
    for text, each in zip(texts, found, strict=True):
        [alone] = loaded.predict(text)
        assert [entity[:3] for entity in map(tuple_of, each.entities)] == [e[:3] for e in map(tuple_of, alone.entities)]
        assert (each.text, each.route.reason) == (text, alone.route.reason)


def tuple_of(entity: Any) -> tuple[int, int, str]:
    return entity.start, entity.end, entity.label


def windows_of(text: str, cuts: Sequence[tuple[int, int, int, int]]) -> list[Window]:
    words, source = segment(text), normalise(text)
    return [
        Window(0, source, text[words[a].start : words[b - 1].end], words[a].start, words[a:b], (first - a, last - a))
        for a, b, first, last in cuts
    ]


def test_a_window_that_an_entity_may_reach_into_is_run() -> None:
    text = "Apollo 1 2 3 4 5 6 7 8 9 10 11"
    overlapping = windows_of(text, [(0, 4, 0, 3), (2, 6, 3, 5), (4, 8, 5, 7), (6, 12, 7, 12)])
    assert windows_to_run(overlapping) == [0, 1]
    assert windows_to_run(overlapping[::-1]) == [2, 3]
    backwards = windows_of("1 2 3 4 5 6 Ulm 8", [(0, 3, 0, 2), (1, 5, 2, 4), (3, 8, 4, 8)])
    assert windows_to_run(backwards) == [1, 2]
    at_borders = windows_of(text, [(0, 4, 0, 4), (4, 8, 4, 8), (8, 12, 8, 12)])
    assert windows_to_run(at_borders) == [0]
    assert windows_to_run([]) == []
