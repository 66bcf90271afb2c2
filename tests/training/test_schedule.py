"""The learning rate of a run, whole and in phases."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from retrieveall.training.schedule import WHOLE, Part, schedule


def rates(steps: int, warmup: float, part: Part) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, steps, warmup, part)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_whole_run_has_the_rates_of_transformers() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 10, 100)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(100, 0.1, WHOLE) == pytest.approx(expected)


def test_two_phases_have_the_rates_of_one_run() -> None:
    assert rates(70, 0.05, (0.0, 0.7)) + rates(30, 0.05, (0.7, 1.0)) == pytest.approx(rates(100, 0.05, WHOLE))


def test_a_later_phase_begins_where_the_one_before_it_ended_whatever_its_steps() -> None:
    first, second = rates(70, 0.05, (0.0, 0.7)), rates(7, 0.05, (0.7, 1.0))
    assert second[0] == pytest.approx(first[-1], abs=0.02)
    assert second == sorted(second, reverse=True)
    assert 0 < second[-1] < 0.02
