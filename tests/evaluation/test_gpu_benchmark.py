"""The GPU benchmark runs through on a tiny shape, and what it computes from its seconds is right."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_benchmark.py"
SMALL = [
    "--shape",
    "tiny",
    "--device",
    "cpu",
    "--dtype",
    "float32",
    "--adapters",
    "3",
    "--rank",
    "2",
    "--rows",
    "6",
    "--tokens",
    "24",
    "--new-tokens",
    "3",
]
SMALL += ["--training-rows", "4", "--rounds", "1", "--peak-size", "64"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def result(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("peft")
    out = tmp_path_factory.mktemp("gpu") / "results" / "gpu.json"
    assert script.main([*SMALL, "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_every_section_is_measured(result: dict[str, Any]) -> None:
    tiny = result["shapes"]["tiny"]
    adapted = {"base", "one adapter", "mixed", "mixed, rows shuffled", "mixtures of three", "peft adapter_names"}
    assert set(tiny["tagging"]) == adapted
    assert set(tiny["writing"]) == {"base", "one adapter", "mixed", "peft adapter_names"}
    assert set(tiny["training"]) == {"plain", "gradient checkpointing"}
    assert all(section["seconds"] > 0 for part in ("tagging", "writing", "training") for section in tiny[part].values())


def test_rates_follow_from_the_seconds(result: dict[str, Any]) -> None:
    tiny, peak = result["shapes"]["tiny"], result["device"]["matmul_peak_tflops"] * 1e12
    mixed = tiny["tagging"]["mixed"]
    assert mixed["tokens_per_second"] == pytest.approx(6 * 24 / mixed["seconds"])
    assert mixed["ratio_to_base"] == pytest.approx(mixed["seconds"] / tiny["tagging"]["base"]["seconds"])
    # Two layers of width 64, 4 heads of 16 (2 of keys and values), 128 in between; by hand.
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)
    operations = 6 * (2 * linear * 24 + 2 * 2 * 64 * 24**2)
    assert mixed["share_of_matmul_peak"] == pytest.approx(operations / mixed["seconds"] / peak)
    written = tiny["writing"]["base"]
    assert written["new_tokens_per_second"] == pytest.approx(6 * 3 / written["seconds"])


def test_shapes_are_those_of_the_backbones(script: ModuleType) -> None:
    """On the meta device: the number of parameters that the published models have."""
    import torch

    counts = {"llama-3-8b": 8_030_261_248, "qwen2.5-7b": 7_615_616_512, "qwen2.5-14b": 14_770_033_664}
    for shape in script.SHAPES:
        model = script.make_backbone(shape, torch.device("meta"), torch.bfloat16)
        assert sum(parameter.numel() for parameter in model.parameters()) == counts[shape]


def test_what_does_not_fit_is_left_out(script: ModuleType) -> None:
    import torch

    def full() -> None:
        raise torch.OutOfMemoryError

    assert script.attempt(full) is None
