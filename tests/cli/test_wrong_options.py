"""Wrong values of options, of ``--set`` and of YAML files: said in this library's words, never in pydantic's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from retrieveall.benchmark.settings import BenchmarkConfig
from retrieveall.config import ModelConfig, parse_config
from retrieveall.errors import ConfigError

Run = Callable[..., Result]
FOREIGN = re.compile(
    r"Value error|Assertion failed|[Ii]nput should|Field required|should have|unable to|valid (int|num)"
)
LABELS = {"labels": [{"name": "PER"}]}
BENCHMARK = {"name": "x", "backbone": "x", "data": {"path": "x", "languages": ["de"]}, "methods": [{"kind": "crf"}]}


def flat(text: str) -> str:
    """Without the frame that typer puts around a usage error."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["extract", "x", "--format", "xml"],
            "expected one of 'table', 'jsonl', 'csv', 'tsv', 'conll', 'html', got 'xml'",
        ),
        (["extract", "x", "--engine", "spark"], "expected one of 'local', 'ray', got 'spark'"),
        (["extract", "x", "--threads", "0"], "expected at least 1, got '0'"),
        (["extract", "x", "--threads", "many"], "expected a whole number, got 'many'"),
        (["extract", "x", "--threshold", "high"], "expected a number, got 'high'"),
        (["extract", "x", "--threshold", "30"], "expected a threshold from 0 to 1, got 30"),
        (["serve", "--port", "99999"], "expected at most 65535, got '99999'"),
        (["plan", "qwen2.5-7b", "--quantization", "3bit"], "expected 'none' or '4bit', got '3bit'"),
        (["train", "x", "--out", "y", "--set", "epochs=many"], "epochs: expected a number, got 'many'"),
        (["train", "x", "--out", "y", "--set", "seed=null"], "seed: expected a whole number, got null"),
        (["train", "x", "--out", "y", "--set", "lora=3"], "lora: expected keys with values, got 3"),
        (["train", "x", "--out", "y", "--set", "lora.rank=-1"], "lora.rank: expected at least 1, got -1"),
        (["train", "x", "--out", "y", "--set", "lora.scalings=[a]"], "lora.scalings.0: expected a number, got 'a'"),
    ],
)
def test_wrong_values_on_the_command_line(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert said in flat(result.stderr)
    assert not FOREIGN.search(flat(result.stderr))


@pytest.mark.parametrize(
    ("kind", "raw", "said"),
    [
        (ModelConfig, {}, "labels: expected a value, got none"),
        (ModelConfig, {"labels": "PER"}, "labels: expected a list, got 'PER'"),
        (ModelConfig, {"labels": [{"definition": "a"}]}, "labels.0.name: expected a value, got none"),
        (ModelConfig, {"labels": []}, "labels: expected at least 1 of them, got none"),
        (ModelConfig, {"labels": [{"name": "O"}]}, "labels.0.name: a label is 1 to 64 characters"),
        (ModelConfig, LABELS | {"threshold": 1.5}, "threshold: expected at most 1, got 1.5"),
        (ModelConfig, LABELS | {"threshold": float("nan")}, "threshold: expected a finite number, got nan"),
        (ModelConfig, LABELS | {"decoder": []}, "decoder: expected keys with values, got a list"),
        (ModelConfig, LABELS | {"decoder": {"kind": "x"}}, "decoder.kind: expected tagging or generation, got 'x'"),
        (
            ModelConfig,
            LABELS | {"decoder": {"kind": "tagging", "temperature": "x"}},
            "decoder.temperature: expected a number, got 'x'",
        ),
        (BenchmarkConfig, BENCHMARK | {"methods": 3}, "methods: expected a list, got 3"),
        (BenchmarkConfig, BENCHMARK | {"methods": [{"k": 3}]}, "methods.0.kind: expected a kind, got none"),
        (
            BenchmarkConfig,
            BENCHMARK | {"data": {"path": "x", "languages": ["de"], "train": "x"}},
            "data.train: expected a whole number or keys with values, got 'x'",
        ),
        (
            BenchmarkConfig,
            BENCHMARK | {"data": {"path": "x", "languages": ["de"], "train": {"de": "x"}}},
            "data.train.de: expected a whole number, got 'x'",
        ),
        (
            BenchmarkConfig,
            BENCHMARK | {"data": {"path": "x", "languages": ["de"], "knowledge": "x"}},
            "data.knowledge: expected a whole number or 'all', got 'x'",
        ),
    ],
)
def test_wrong_values_in_yaml(kind: Any, raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(kind, raw, "f.yaml")
    assert str(caught.value).startswith(f"f.yaml: {said}")
    assert not FOREIGN.search(str(caught.value))


def test_methods_of_a_benchmark_are_named_where_one_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"methods\.0\.kind: expected retrieveall, .*crf.* or gliner, got 'cfr'"):
        parse_config(BenchmarkConfig, BENCHMARK | {"methods": [{"kind": "cfr"}]}, "f.yaml")


def test_a_secret_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setenv("RETRIEVEALL_SERVE_KEY", "geheim")
    result = run("serve", tiny_model)
    assert result.exit_code == 1
    assert "key: expected at least 8 printable ASCII characters" in result.stderr
    assert "geheim" not in result.stderr
