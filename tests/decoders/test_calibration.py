"""The calibration error equals a hand computation."""

from __future__ import annotations

import pytest

from retrieveall.decoders.calibration import expected_calibration_error


def test_calibration_error_by_hand() -> None:
    # Ten bins: 0.31 and 0.39 (one right of two) are in one, 0.95 and 1.0 (both right) in another, 0.0 (wrong) alone.
    probabilities, correct = [0.31, 0.39, 0.95, 1.0, 0.0], [True, False, True, True, False]
    by_hand = (2 * abs(0.35 - 0.5) + 2 * abs(0.975 - 1.0) + 1 * 0.0) / 5
    assert expected_calibration_error(probabilities, correct, bins=10) == pytest.approx(by_hand)


def test_nothing_predicted_has_no_error() -> None:
    assert expected_calibration_error([], []) == 0.0
