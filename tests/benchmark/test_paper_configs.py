"""The configurations for the paper's backbones, whole, on tiny random models of the same classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retrieveall.benchmark import load_benchmark
from retrieveall.cli.app import app

CONFIGS = Path(__file__).parents[2] / "benchmarks" / "configs"
CLASSES = {"paper-llama-3-8b": "llama", "paper-qwen2.5-7b": "qwen2", "paper-qwen2.5-14b": "qwen2"}
SMALL = {
    "data.languages": "[de, en]",
    "data.train": 8,
    "data.validation": 2,
    "data.test": 3,
    "keep_models": "false",
    "training.steps": 2,
}

pytest.importorskip("matplotlib")
pytest.importorskip("pycrfsuite")


def test_no_configuration_is_forgotten() -> None:
    assert set(CLASSES) == {path.stem for path in CONFIGS.glob("paper-*.yaml")}


@pytest.mark.parametrize(
    "name",
    ["paper-llama-3-8b", "paper-qwen2.5-7b", pytest.param("paper-qwen2.5-14b", marks=pytest.mark.slow)],
)
def test_all_methods_run_on_a_model_of_the_class(
    corpus_folder: Path,
    encoder_folder: Path,
    make_backbone: Callable[..., Any],
    tiny_tokenizer: Any,
    tmp_path: Path,
    name: str,
) -> None:
    backbone = tmp_path / "backbone"
    make_backbone(CLASSES[name]).save_pretrained(backbone)
    tiny_tokenizer.save_pretrained(backbone)
    changes = SMALL | {"data.path": corpus_folder, "backbone": backbone, "backbones.encoder": encoder_folder}
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    config, out = CONFIGS / f"{name}.yaml", tmp_path / "out"
    done = CliRunner().invoke(app, ["benchmark", str(config), *options, "--out", str(out), "--jobs", "0"])
    assert done.exit_code == 0, done.output
    results = [json.loads(path.read_bytes()) for path in out.glob("cells/*/result.json")]
    for method in load_benchmark(config).methods:
        own = [each for each in results if each["method"]["name"] == method.name]
        assert {language for each in own for language in each["languages"]} == {"de", "en"}, method.name
        trained = {each["cost"]["trained_mb"] > 0 for each in own}
        assert trained == {method.kind != "promptner"}, method.name
