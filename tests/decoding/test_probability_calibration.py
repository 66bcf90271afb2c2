"""Platt scaling of span probabilities, with their length."""

from __future__ import annotations

import numpy as np
import pytest

from retrieveall.decoding import UNCALIBRATED, Calibration, calibrate, expected_calibration_error, fit_calibration


def sample(calibration: Calibration, count: int = 20_000) -> tuple[list[float], list[int], list[bool]]:
    """Probabilities and lengths whose truth follows ``calibration``."""
    rng = np.random.default_rng(5)
    shown = rng.uniform(0.05, 0.999, count)
    words = rng.integers(1, 6, count)
    true = np.array([calibrate(float(p), int(n), calibration) for p, n in zip(shown, words, strict=True)])
    return shown.tolist(), words.tolist(), (rng.random(count) < true).tolist()


@pytest.mark.parametrize("true", [(0.4, -0.5, 0.0), (1.0, 0.0, 0.0), (2.0, 0.3, -0.5), (0.5, 1.0, -1.0)])
def test_a_known_distortion_is_recovered(true: tuple[float, float, float]) -> None:
    found = fit_calibration(*sample(Calibration(*true)))
    assert found == pytest.approx(true, abs=0.15)


def test_calibrated_probabilities_are_true() -> None:
    shown, words, correct = sample(Calibration(0.4, 0.5, -1.0))
    fitted = fit_calibration(shown[::2], words[::2], correct[::2])
    held_out = [calibrate(p, n, fitted) for p, n in zip(shown[1::2], words[1::2], strict=True)]
    assert expected_calibration_error(shown[1::2], correct[1::2]) > 0.1
    assert expected_calibration_error(held_out, correct[1::2]) < 0.02


def test_nothing_and_little_to_fit_on() -> None:
    assert fit_calibration([], [], []) == UNCALIBRATED
    assert fit_calibration([0.9], [2], [True]) == pytest.approx(UNCALIBRATED, abs=0.3)


def test_order_stays_and_edges_stay_probabilities() -> None:
    worse_when_surer = fit_calibration([0.1] * 50 + [0.9] * 50, [1] * 100, [True] * 50 + [False] * 50)
    assert worse_when_surer.slope >= 0.0
    values = [calibrate(p, 3, Calibration(0.4, -0.5, -0.2)) for p in (0.0, 1e-9, 0.3, 0.7, 1.0)]
    assert values == sorted(values)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert calibrate(0.3, 2, UNCALIBRATED) == 0.3
