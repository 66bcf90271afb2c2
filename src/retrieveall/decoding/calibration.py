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

    ``slope * log_odds(p) + length * ln(words of the entity) + intercept``.

    The length is Platt scaling's (1999) second variable, because a long entity is as likely as its words together, each
    of which a model may be too sure of.
    """

    slope: float = 1.0
    intercept: float = 0.0
    length: float = 0.0


UNCALIBRATED = Calibration()
"""Changes nothing."""


def fit_calibration(probabilities: Sequence[float], words: Sequence[int], correct: Sequence[bool]) -> Calibration:
    """The calibration under which what is ``correct`` is likeliest.

    Logistic regression on log-odds and length (Platt 1999), by Newton's method, with Platt's softened targets and a
    weak pull towards ``UNCALIBRATED``, which decides where there are few entities. The slope is never negative, so
    that the order of probabilities of equally long entities stays.

    Args:
        probabilities: those of entities that a model found.
        words: how long each is.
        correct: whether it is right.
    """
    if not len(probabilities):
        return UNCALIBRATED
    x = _log_odds(np.asarray(probabilities, dtype=float))
    hits = np.asarray(correct, dtype=bool)
    target = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))
    design = np.stack([x, np.ones_like(x), np.log(np.maximum(words, 1))], axis=1)
    start = np.array(UNCALIBRATED)
    weights = start.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (p - target) + (weights - start)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.eye(len(start))
        step = np.linalg.solve(curvature, gradient)
        weights = weights - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    slope, intercept, length = map(float, weights)
    return Calibration(max(slope, 0.0), intercept, length)


def calibrate(probability: float, words: int, calibration: Calibration) -> float:
    """The true probability of an entity of so many words."""
    if calibration == UNCALIBRATED:
        return probability
    slope, intercept, length = calibration
    odds = slope * _log_odds(np.asarray(probability)) + length * np.log(max(words, 1)) + intercept
    return float(1 / (1 + np.exp(-odds)))


def _log_odds(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    odds: npt.NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return odds


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
