"""Calibration of probabilities: Platt scaling and the expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "UNCALIBRATED",
    "Calibration",
    "calibrate",
    "expected_calibration_error",
    "fit_calibration",
]

_EDGE = 1e-6


class Calibration(NamedTuple):
    """The calibrated log-odds of an entity are

    ``(slope + slope_words * w + slope_around * a) * log_odds(p)
    + intercept + intercept_words * w + intercept_around * a``,
    where ``w`` is the logarithm of the entity's words and ``a`` that of one plus the words around it in its text.

    This is Platt scaling (1999) with slope and intercept that depend on the lengths of the entity and its text: the
    overconfidence of single words adds up in long entities, and a text of little more than a name gives less evidence.
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
"""Maximum of ``around``: calibrations are fitted on sentences but applied to any text."""

_PULL = 4.0
"""L2 regularisation towards ``UNCALIBRATED``: half of this times the squared distance; fifty sentences outweigh it."""


def fit_calibration(
    probabilities: Sequence[float], words: Sequence[int], around: Sequence[int], correct: Sequence[bool]
) -> Calibration:
    """The maximum-likelihood calibration.

    Logistic regression with Platt's softened targets (1999) and weak regularisation towards ``UNCALIBRATED``, which
    dominates with few entities.

    Args:
        probabilities: probability of each predicted entity.
        words: number of its words.
        around: number of other words in its text.
        correct: whether it is a gold entity.
    """
    if not len(probabilities):
        return UNCALIBRATED
    from scipy.optimize import minimize

    x, w, a = _columns(probabilities, words, around)
    design = np.stack([x, np.ones_like(x), w, a, x * w, x * a], axis=1)  # in the order of Calibration
    hits = np.asarray(correct, dtype=bool)
    target = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))
    start = np.array(UNCALIBRATED)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        odds, shift = design @ weights, weights - start
        value = np.logaddexp(0, odds).sum() - target @ odds + _PULL / 2 * np.square(shift).sum()
        return float(value), design.T @ (_probability(odds) - target) + _PULL * shift

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-8})
    return Calibration(*map(float, found.x))


def calibrate(probability: float, words: int, around: int, calibration: Calibration) -> float:
    """The calibrated probability of an entity of ``words`` words in a text with ``around`` other words.

    A negative slope is set to zero, so that the order of two entities of equal lengths is never reversed.
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
    """The log-odds and the logarithms of both lengths."""
    clipped = np.clip(np.asarray(probabilities, dtype=float), _EDGE, 1 - _EDGE)
    odds = np.log(clipped) - np.log1p(-clipped)
    return odds, np.log(np.maximum(words, 1)), np.log1p(np.clip(around, 0, _MOST_AROUND))


def _probability(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):  # then it is 0, as it should be
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
