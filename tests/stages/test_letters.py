"""Windows without a letter, in which no entity is allowed: the model does not run on them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.data import normalise, segment
from retrieveall.engines import ScoreRequest
from retrieveall.stages import Window, windows_to_run

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
    for language in (None, "de"):
        [prediction] = loaded.predict(text, language=language)
        assert asked == []
        assert (prediction.text, prediction.entities) == (text, ())
        assert prediction.route.reason
        assert sum(prediction.route.adapters.values()) == pytest.approx(1.0 if prediction.route.adapters else 0.0)


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
