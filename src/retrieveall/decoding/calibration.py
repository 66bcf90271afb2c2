"""Are the probabilities true? Temperature, calibration, and the expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "UNCALIBRATED",
    "Calibration",
    "calibrate",
    "expected_calibration_error",
    "fit_calibration",
    "fit_temperature",
]

_EDGE = 1e-6


def fit_temperature(logits: npt.NDArray[np.floating[Any]], gold: npt.NDArray[np.integer[Any]]) -> float:
    """The temperature T, from 0.1 to 10, under which ``gold`` [n] is likeliest given ``logits`` [n, tags] / T.

    1 where there is nothing to fit on. Guo et al. 2017, "On Calibration of Modern Neural Networks", section
    4.2, by golden-section search over log T.
    """

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
        return float((total - scaled[np.arange(len(gold)), gold]).mean())

    if not len(gold):
        return 1.0
    low, high = np.log(0.1), np.log(10.0)
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


class Calibration(NamedTuple):
    """How a true probability follows from that of a model, by the log-odds:

    ``(slope + slope_words * w + slope_around * a) * log_odds(p)
    + intercept + intercept_words * w + intercept_around * a``,
    where ``w`` is the logarithm of the entity's words and ``a`` that of one plus the words around it in its text.

    This is Platt scaling (1999) whose slope and intercept depend on the length of the entity and of its text: a long
    entity is as likely as its words together, each of which a model may be too sure of, and a text that is little more
    than a name says less than one with a verb.
    """

    slope: float = 1.0
    intercept: float = 0.0
    intercept_words: float = 0.0
    intercept_around: float = 0.0
    slope_words: float = 0.0
    slope_around: float = 0.0


UNCALIBRATED = Calibration()
"""Changes nothing."""

_MOST_AROUND = 100
"""Words around an entity that count: calibrations are fitted on sentences, and used on whatever comes."""

_PULL = 4.0
"""Towards ``UNCALIBRATED``, in the log-likelihood half of this by the squared distance: fifty sentences outweigh it."""


def fit_calibration(
    probabilities: Sequence[float], words: Sequence[int], around: Sequence[int], correct: Sequence[bool]
) -> Calibration:
    """The calibration under which what is ``correct`` is likeliest.

    Logistic regression (Platt 1999), by Newton's method, with Platt's softened targets and a weak pull towards
    ``UNCALIBRATED``, which decides where there are few entities.

    Args:
        probabilities: those of entities that a model found.
        words: how long each is.
        around: how many other words its text has.
        correct: whether it is right.
    """
    if not len(probabilities):
        return UNCALIBRATED
    x, w, a = _columns(probabilities, words, around)
    design = np.stack([x, np.ones_like(x), w, a, x * w, x * a], axis=1)  # in the order of Calibration
    hits = np.asarray(correct, dtype=bool)
    target = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))
    start = np.array(UNCALIBRATED)

    def loss(weights: npt.NDArray[np.float64]) -> float:
        odds = design @ weights
        return float(np.logaddexp(0, odds).sum() - target @ odds + _PULL / 2 * np.square(weights - start).sum())

    weights = start.copy()
    for _ in range(100):
        p = _probability(design @ weights)
        gradient = design.T @ (p - target) + _PULL * (weights - start)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + _PULL * np.eye(len(start))
        step = np.linalg.solve(curvature, gradient)
        before = loss(weights)
        while np.abs(step).max() > 1e-9 and loss(weights - step) > before:
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return Calibration(*map(float, weights))


def calibrate(probability: float, words: int, around: int, calibration: Calibration) -> float:
    """The true probability of an entity of so many ``words`` in a text with so many others ``around``.

    Of two entities as long in texts as long the one with the higher probability keeps it: a slope below zero is zero.
    """
    if calibration == UNCALIBRATED:
        return probability
    x, w, a = (float(column[0]) for column in _columns([probability], [words], [around]))
    slope = calibration.slope + calibration.slope_words * w + calibration.slope_around * a
    intercept = calibration.intercept + calibration.intercept_words * w + calibration.intercept_around * a
    return float(_probability(np.asarray(max(slope, 0.0) * x + intercept)))


def _columns(
    probabilities: Sequence[float], words: Sequence[int], around: Sequence[int]
) -> tuple[npt.NDArray[np.float64], ...]:
    """Log-odds, and the logarithms of both lengths."""
    clipped = np.clip(np.asarray(probabilities, dtype=float), _EDGE, 1 - _EDGE)
    odds = np.log(clipped) - np.log1p(-clipped)
    return odds, np.log(np.maximum(words, 1)), np.log1p(np.clip(around, 0, _MOST_AROUND))


def _probability(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    p: npt.NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return p


def expected_calibration_error(probabilities: Sequence[float], correct: Sequence[bool], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their sizes.

    Guo et al. 2017, equation 3.
    """
    if not probabilities:
        return 0.0
    p, c = np.asarray(probabilities, dtype=float), np.asarray(correct, dtype=float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == b].mean() - c[which == b].mean()) * (which == b).sum() for b in np.unique(which)]
    return float(sum(gaps) / len(p))
