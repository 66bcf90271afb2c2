"""Platt scaling of span probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from retrieveall.decoding import UNCALIBRATED, calibrate, expected_calibration_error, fit_calibration


def sample(slope: float, intercept: float, count: int = 20_000) -> tuple[list[float], list[bool]]:
    """Probabilities whose truth follows ``calibrate(p, slope, intercept)``."""
    rng = np.random.default_rng(5)
    shown = rng.uniform(0.05, 0.999, count)
    true = np.array([calibrate(float(p), slope, intercept) for p in shown])
    return shown.tolist(), (rng.random(count) < true).tolist()


@pytest.mark.parametrize(("slope", "intercept"), [(0.4, -0.5), (1.0, 0.0), (2.0, 0.3)])
def test_a_known_distortion_is_recovered(slope: float, intercept: float) -> None:
    found = fit_calibration(*sample(slope, intercept))
    assert found == pytest.approx((slope, intercept), abs=0.15)


def test_calibrated_probabilities_are_true() -> None:
    shown, correct = sample(0.4, -0.5)
    fitted = fit_calibration(shown[::2], correct[::2])
    held_out = [calibrate(p, *fitted) for p in shown[1::2]]
    assert expected_calibration_error(shown[1::2], correct[1::2]) > 0.1
    assert expected_calibration_error(held_out, correct[1::2]) < 0.02


def test_nothing_and_little_to_fit_on() -> None:
    assert fit_calibration([], []) == UNCALIBRATED
    slope, intercept = fit_calibration([0.9], [True])
    assert (slope, intercept) == pytest.approx(UNCALIBRATED, abs=0.3)


def test_order_stays_and_edges_stay_probabilities() -> None:
    worse_when_surer = fit_calibration([0.1] * 50 + [0.9] * 50, [True] * 50 + [False] * 50)
    assert worse_when_surer[0] >= 0.0
    values = [calibrate(p, 0.4, -0.5) for p in (0.0, 1e-9, 0.3, 0.7, 1.0)]
    assert values == sorted(values)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert calibrate(0.3, *UNCALIBRATED) == 0.3
