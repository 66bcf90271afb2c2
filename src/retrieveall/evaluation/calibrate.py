"""Fits the calibration of a language to its predicted entities, compared with gold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from retrieveall.decoders import Reading
from retrieveall.decoders.calibration import Calibration, fit_calibration
from retrieveall.engines import Failure
from retrieveall.errors import EngineError
from retrieveall.stages import Window

__all__ = ["Judged", "calibration_of", "judge"]

Span = tuple[int, int, str]


class Judged(NamedTuple):
    """A predicted entity: its probability, its words, the other words of its window, whether it is correct."""

    probability: float
    words: int
    around: int
    correct: bool


def calibration_of(judged: Iterable[Judged]) -> Calibration:
    """The maximum-likelihood calibration; ``UNCALIBRATED`` without entities."""
    found = list(judged)
    columns = zip(*found, strict=True) if found else ((), (), (), ())
    return fit_calibration(*columns)


def judge(
    windows: Sequence[Window], readings: Sequence[Reading | Failure], gold: Sequence[Collection[Span]]
) -> list[list[Judged]]:
    """The predicted entities of each text, compared with gold.

    Args:
        gold: the (start, end, label) of each text, in normal form.

    Raises:
        EngineError: a request failed.
    """
    found: list[list[Judged]] = [[] for _ in gold]
    free_from = [0] * len(gold)
    for window, reading in zip(windows, readings, strict=True):
        if isinstance(reading, Failure):
            raise EngineError(reading.reason)
        own, right = found[window.document], gold[window.document]
        for start, end, label, probability in reading.spans:
            if start >= free_from[window.document]:
                free_from[window.document] = end
                words = window.count_words(start, end)
                correct = (start, end, label) in right
                own.append(Judged(probability, words, len(window.words) - words, correct))
    return found
