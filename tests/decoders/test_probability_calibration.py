"""Platt scaling of span probabilities, with the lengths of entity and text."""

from __future__ import annotations

import numpy as np
import pytest

from retrieveall.decoders.calibration import (
    UNCALIBRATED,
    Calibration,
    calibrate,
    expected_calibration_error,
    fit_calibration,
)

Sample = tuple[list[float], list[int], list[int], list[bool]]


def sample(calibration: Calibration, count: int = 20_000) -> Sample:
    """Probabilities and lengths whose truth follows ``calibration``."""
    rng = np.random.default_rng(5)
    shown = rng.uniform(0.05, 0.999, count).tolist()
    words = rng.integers(1, 6, count).tolist()
    around = rng.integers(0, 40, count).tolist()
    true = np.array([calibrate(*each, calibration) for each in zip(shown, words, around, strict=True)])
    return shown, words, around, (rng.random(count) < true).tolist()


@pytest.mark.parametrize(
    "true",
    [
        (0.4, -0.5, 0.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        (2.0, 0.3, -0.5, 0.0, 0.0, 0.0),
        (0.5, 1.0, -1.0, 0.2, 0.3, 0.0),
        (1.2, 0.0, -0.3, -0.2, 0.0, -0.2),
    ],
)
def test_a_known_distortion_is_recovered(true: tuple[float, ...]) -> None:
    found = fit_calibration(*sample(Calibration(*true)))
    assert found == pytest.approx(true, abs=0.2)


def test_calibrated_probabilities_are_true() -> None:
    everything = sample(Calibration(0.4, 0.5, -1.0, 0.3))
    fitted = fit_calibration(*(column[::2] for column in everything))
    shown, words, around, correct = (column[1::2] for column in everything)
    held_out = [calibrate(*each, fitted) for each in zip(shown, words, around, strict=True)]
    assert expected_calibration_error(shown, correct) > 0.1
    assert expected_calibration_error(held_out, correct) < 0.02


@pytest.mark.parametrize("count", [3, 40, 2000])
def test_no_calibration_nearby_is_likelier(count: int) -> None:
    probabilities, words, around, correct = sample(Calibration(0.5, 1.0, -1.0, 0.2, 0.3), count)
    fitted = fit_calibration(probabilities, words, around, correct)
    hits = sum(correct)
    right, wrong = (hits + 1) / (hits + 2), 1 / (count - hits + 2)  # Platt's targets

    def loss(calibration: Calibration) -> float:
        found = np.array([calibrate(*each, calibration) for each in zip(probabilities, words, around, strict=True)])
        target = np.where(correct, right, wrong)
        pull = 2 * np.square(np.array(calibration) - UNCALIBRATED).sum()
        return float(pull - (target * np.log(found) + (1 - target) * np.log1p(-found)).sum())

    for field in Calibration._fields:
        for step in (-1e-3, 1e-3):
            assert loss(fitted._replace(**{field: getattr(fitted, field) + step})) > loss(fitted)


def test_nothing_and_little_to_fit_on() -> None:
    assert fit_calibration([], [], [], []) == UNCALIBRATED
    assert fit_calibration([0.9], [2], [5], [True]) == pytest.approx(UNCALIBRATED, abs=0.3)


def test_extreme_probabilities_do_not_throw_the_fit_off() -> None:
    """Plain Newton steps overshoot where nearly everything is right and sure of itself."""
    shown = [1 - 1e-6] * 990 + [1e-6] * 5 + [1 - 1e-6] * 5
    fitted = fit_calibration(shown, [1] * 1000, [0] * 1000, [True] * 990 + [False] * 10)
    assert np.isfinite(fitted).all()
    assert calibrate(1 - 1e-6, 1, 0, fitted) == pytest.approx(990 / 995, abs=0.01)


def test_order_stays_and_edges_stay_probabilities() -> None:
    surer = fit_calibration([0.1] * 50 + [0.9] * 50, [1] * 100, [3] * 100, [True] * 50 + [False] * 50)
    assert calibrate(0.1, 1, 3, surer) <= calibrate(0.9, 1, 3, surer)
    values = [calibrate(p, 3, 9, Calibration(0.4, -0.5, -0.2, 0.1)) for p in (0.0, 1e-9, 0.3, 0.7, 1.0)]
    assert values == sorted(values)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert calibrate(0.3, 2, 4, UNCALIBRATED) == 0.3


def test_beyond_a_hundred_words_a_text_is_long() -> None:
    calibration = Calibration(0.5, 0.1, 0.0, 0.3)
    assert calibrate(0.7, 1, 100, calibration) == calibrate(0.7, 1, 5000, calibration)
    assert calibrate(0.7, 1, 10, calibration) < calibrate(0.7, 1, 100, calibration)
