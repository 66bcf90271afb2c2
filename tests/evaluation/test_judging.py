"""What a model found, compared with gold: offsets in normal form, each name once, lengths of name and window."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.data import normalise_sentence
from retrieveall.decoders import Reading, Span
from retrieveall.decoders.calibration import UNCALIBRATED
from retrieveall.engines import Failure
from retrieveall.errors import EngineError
from retrieveall.evaluation.calibrate import Judged, calibration_of, judge
from retrieveall.types import Entity, Sentence


def test_judging_windows(loaded: RetrieveAll) -> None:
    decomposed = "Jose\u0301 Marti\u0301nez " + "ging nach Ulm und zuru\u0308ck , " * 12
    sentence = Sentence(decomposed, (Entity(0, 15, "PER", decomposed[:15]),), "de", "1")
    windows = loaded.stages.window([decomposed])
    assert len(windows) > 1
    end = len("José Martínez")
    readings: list[Any] = [Reading((Span(0, end, "PER", 0.9), Span(end - 3, end, "LOC", 0.8)))]
    second = windows[1].kept_span[0]
    readings += [Reading((Span(second, second + 3, "LOC", 0.7),)), *[Reading() for _ in windows[2:]]]
    gold = {(e.start, e.end, e.label) for e in normalise_sentence(sentence).entities}
    [found] = judge(windows, readings, [gold])
    assert [(each.probability, each.words, each.correct) for each in found] == [(0.9, 2, True), (0.7, 1, False)]
    assert [each.around for each in found] == [len(windows[0].words) - 2, len(windows[1].words) - 1]
    with pytest.raises(EngineError, match="no answer"):
        judge(windows, [Failure("no answer"), *readings[1:]], [gold])


def test_what_is_judged_wrong_is_less_likely() -> None:
    assert calibration_of([]) == UNCALIBRATED
    right, wrong = (calibration_of([Judged(0.7, 1, 5, correct)] * 50) for correct in (True, False))
    assert wrong.intercept < UNCALIBRATED.intercept < right.intercept
