"""The temperature that was put in comes out, and the calibration error is that of a hand computation."""

from __future__ import annotations

import numpy as np
import pytest

from retrieveall.decoding import expected_calibration_error, fit_temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(0, 2, (12_000, 5))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    gold = (odds.cumsum(axis=1) / odds.sum(axis=1, keepdims=True) > generator.random((12_000, 1))).argmax(axis=1)
    assert fit_temperature(logits * temperature, gold) == pytest.approx(temperature, rel=0.05)


def test_shifted_rows_fit_the_same() -> None:
    generator = np.random.default_rng(1)
    logits, gold = generator.normal(0, 3, (500, 4)), generator.integers(0, 4, 500)
    shifted = logits + generator.normal(0, 100, (500, 1))
    assert fit_temperature(shifted, gold) == pytest.approx(fit_temperature(logits, gold), rel=1e-6)


def test_the_search_stays_between_a_tenth_and_ten() -> None:
    logits = np.tile([1.0, 0.0], (50, 1))
    assert fit_temperature(logits, np.zeros(50, dtype=int)) == pytest.approx(0.1, rel=1e-3)
    assert fit_temperature(logits, np.ones(50, dtype=int)) == pytest.approx(10.0, rel=1e-3)


def test_nothing_to_fit_on_leaves_the_scores_as_they_are() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0


def test_calibration_error_by_hand() -> None:
    # Ten bins: 0.31 and 0.39 (one right of two) are in one, 0.95 and 1.0 (both right) in another, 0.0 (wrong) alone.
    probabilities, correct = [0.31, 0.39, 0.95, 1.0, 0.0], [True, False, True, True, False]
    by_hand = (2 * abs(0.35 - 0.5) + 2 * abs(0.975 - 1.0) + 1 * 0.0) / 5
    assert expected_calibration_error(probabilities, correct, bins=10) == pytest.approx(by_hand)


def test_nothing_predicted_has_no_error() -> None:
    assert expected_calibration_error([], []) == 0.0
