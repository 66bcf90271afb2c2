"""Mixed batches stay near one merged adapter and ahead of PEFT; in processor time, so that a busy machine is no matter.

The bars here leave room for noise and catch a regression; docs/scaling.md has the measured figures.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "mixed_batches.py"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("mixed_batches", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found: dict[str, Any] = script.run(script.parse(["--layers", "1", "--tokens", "32", "--rounds", "5"]))
    return found


def test_forty_adapters_in_one_batch_cost_little_more_than_one_merged(result: dict[str, Any]) -> None:
    assert result["ratio_to_merged"]["bank, mixed"] < 1.4, result


def test_mixing_by_row_is_faster_than_adapter_names(result: dict[str, Any]) -> None:
    assert result["median_seconds"]["bank, mixed"] < result["median_seconds"]["peft adapter_names"], result
