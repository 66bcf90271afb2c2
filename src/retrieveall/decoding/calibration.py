"""Are the probabilities true? Temperature fitting and the expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["UNCALIBRATED", "calibrate", "expected_calibration_error", "fit_calibration", "fit_temperature"]

UNCALIBRATED = (1.0, 0.0)
"""Slope and intercept that change nothing."""

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


def fit_calibration(probabilities: Sequence[float], correct: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of ``calibrate`` under which what is ``correct`` is likeliest.

    Logistic regression on the log-odds (Platt 1999), by Newton's method, with Platt's softened targets and a weak
    pull towards ``UNCALIBRATED``, which decides where there are few entities. The slope is never negative, so that
    the order of probabilities stays.
    """
    if not len(probabilities):
        return UNCALIBRATED
    x = _log_odds(np.asarray(probabilities, dtype=float))
    hits = np.asarray(correct, dtype=bool)
    target = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    start = np.array(UNCALIBRATED)
    weights = start.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (p - target) + (weights - start)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    return float(max(weights[0], 0.0)), float(weights[1])


def calibrate(probability: float, slope: float, intercept: float) -> float:
    """``probability`` with its log-odds stretched by ``slope`` and shifted by ``intercept``."""
    if (slope, intercept) == UNCALIBRATED:
        return probability
    return float(1 / (1 + np.exp(-(slope * _log_odds(np.asarray(probability)) + intercept))))


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
