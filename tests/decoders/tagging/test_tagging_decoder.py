"""The tagging decoder: targets of windows that cut entities, temperature, and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from retrieveall import RetrieveAll
from retrieveall.data import normalise, segment
from retrieveall.engines import ScoreRequest
from retrieveall.prompts import Prompt
from retrieveall.stages import Window
from retrieveall.types import Entity, Route
from tiny import prepared, probabilities, requests_of

TEXT = "Ada Lovelace met Karl May in New York today ."
EMPTY = Prompt((), ())


@pytest.fixture(params=["full", "repeat"])
def decoder(request: pytest.FixtureRequest, make_setting: Callable[..., Any]) -> Any:
    return make_setting(request.param).decoder


def window_of(text: str, start: int, end: int, keep: tuple[int, int], document: int = 0) -> Window:
    """The words ``start`` to ``end`` of a text, of which the window keeps ``keep``, counted in the text."""
    words = segment(text)[start:end]
    offset = words[0].start
    own = keep[0] - start, keep[1] - start
    return Window(document, normalise(text), text[offset : words[-1].end], offset, words, own)


def learnt(decoder: Any, window: Window, gold: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The words whose tag is learnt, with the tag."""
    entities = [Entity(TEXT.index(name), TEXT.index(name) + len(name), label, name) for name, label in gold]
    target = decoder.target(window, EMPTY, entities)
    reads = dict(zip([last for _, last in target.words], window.words, strict=True))
    return {reads[at].text: decoder.tags.tags[tag] for at, tag in zip(target.positions, target.labels, strict=True)}


class TestTargets:
    GOLD = (("Ada Lovelace", "PER"), ("Karl May", "PER"), ("New York", "LOC"))

    def test_a_whole_text(self, decoder: Any) -> None:
        assert learnt(decoder, window_of(TEXT, 0, 10, (0, 10)), self.GOLD) == {
            "Ada": "B-PER", "Lovelace": "E-PER", "met": "O", "Karl": "B-PER", "May": "E-PER", "in": "O",
            "New": "B-LOC", "York": "E-LOC", "today": "O", ".": "O",
        }  # fmt: skip

    def test_words_that_are_only_read_are_not_learnt(self, decoder: Any) -> None:
        assert learnt(decoder, window_of(TEXT, 0, 10, (2, 4)), self.GOLD) == {"met": "O", "Karl": "B-PER"}
        assert learnt(decoder, window_of(TEXT, 2, 10, (4, 7)), self.GOLD) == {"May": "E-PER", "in": "O", "New": "B-LOC"}

    def test_an_entity_that_the_window_cuts_is_not_learnt(self, decoder: Any) -> None:
        """Neither as a shorter entity nor as none."""
        assert learnt(decoder, window_of(TEXT, 1, 7, (1, 7)), self.GOLD) == {
            "met": "O", "Karl": "B-PER", "May": "E-PER", "in": "O",
        }  # fmt: skip
        assert learnt(decoder, window_of(TEXT, 1, 2, (1, 2)), self.GOLD) == {}

    def test_no_entities(self, decoder: Any) -> None:
        assert set(learnt(decoder, window_of(TEXT, 3, 8, (4, 8)), ()).values()) == {"O"}


class Fixed:
    """An engine that gives the same rows, whatever the request."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        return [self.rows[: len(each.positions)] for each in requests]


def test_an_entity_reaches_from_one_window_into_the_next(decoder: Any) -> None:
    windows = [window_of(TEXT, 0, 5, (0, 4)), window_of(TEXT, 3, 10, (4, 10))]
    tags = decoder.tags.encode([(0, 2, "PER"), (3, 5, "PER"), (6, 8, "LOC")], 10)
    rows = np.full((10, 13), -50.0, dtype=np.float32)
    rows[np.arange(10), tags] = 0.0

    class Split(Fixed):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
            return [self.rows[:5], self.rows[3:]]

    first, second = decoder.decode(Split(rows), windows, [EMPTY] * 2, [Route()] * 2)
    assert [TEXT[span.start : span.end] for span in first.spans] == ["Ada Lovelace", "Karl May"]
    assert [TEXT[span.start : span.end] for span in second.spans] == ["New York"]
    assert [span.probability for span in (*first.spans, *second.spans)] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("fixture", ["loaded", "loaded_repeat"])
def test_scores_are_log_probabilities_at_the_temperature(request: pytest.FixtureRequest, fixture: str) -> None:
    from retrieveall.decoders import make_decoder

    model: RetrieveAll = request.getfixturevalue(fixture)
    [logits] = model.engine.score(requests_of(model, ["Karl May in London"], "de"))
    for temperature in (1.0, 2.5):
        tagging = model.config.decoder.model_copy(update={"temperature": temperature})
        decoder: Any = make_decoder(model.config.model_copy(update={"decoder": tagging}), model.engine.codec)
        [scores] = decoder.scores(model.engine, *prepared(model, ["Karl May in London"], "de"))
        expected = torch.log_softmax(torch.from_numpy(logits) / temperature, -1).numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        np.testing.assert_allclose(probabilities(scores), np.exp(scores), atol=1e-5)


def test_time_is_linear_in_the_windows_of_a_text(make_setting: Callable[..., Any]) -> None:
    decoder = make_setting("full").decoder
    rows = np.random.default_rng(1).normal(0, 2, (4, 13)).astype(np.float32)

    def seconds(count: int) -> float:
        text = "Anna war in Ulm " * count
        words, source = segment(text), normalise(text)
        windows = [
            Window(0, source, text[own[0].start : own[-1].end], own[0].start, own, (0, 4))
            for own in (words[i : i + 4] for i in range(0, len(words), 4))
        ]
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            found = decoder.decode(Fixed(rows), windows, [EMPTY] * count, [Route()] * count)
            best = min(best, time.process_time() - begin)
        assert sum(len(each.spans) for each in found) >= count
        return best

    # Quadratic time would be sixteen times as long; the factor of two is for a busy machine.
    assert seconds(6000) < 8 * max(seconds(1500), 0.03)
