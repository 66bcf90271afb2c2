"""The report of made-up results: every table and figure, and the numbers in them."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.benchmark import BenchmarkConfig
from retrieveall.benchmark.cells import cells_of
from retrieveall.benchmark.corpora import Corpus, Gold
from retrieveall.benchmark.report import write_report
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.report.tables import f1_values, growth_points, mean_f1, size_points
from retrieveall.benchmark.runner import CELLS, CONFIG, PLAN
from retrieveall.benchmark.scores import Row, score, summary
from retrieveall.benchmark.worker import FAILED, RESULT, dump_rows, save_cell
from retrieveall.config import LabelConfig, dump_yaml, parse_config
from retrieveall.errors import DataError
from retrieveall.evaluation import Provenance
from retrieveall.types import Sentence

pytest.importorskip("matplotlib")

LABELS = ("PER", "ORG", "LOC")
LANGUAGES = ("en", "de", "zh", "ja")
RAW: dict[str, Any] = {
    "name": "made-up",
    "data": {"path": "panx", "languages": list(LANGUAGES), "train": 250, "test": 60},
    "seeds": [1, 2],
    "sizes": [50, 1000],
    "sets": ["all", "grow"],
    "backbone": "owner/model",
    "methods": [
        {"name": "RetrieveAll", "kind": "retrieveall", "seeds": [1, 2, 3]},
        {"name": "shared adapter", "kind": "retrieveall", "adapters": "shared"},
        {"name": "LS-unLLaMA", "kind": "unmasked_lm"},
        {"name": "CRF, per language", "kind": "crf", "languages": ["en", "de"]},
        {"name": "PromptNER", "kind": "promptner"},
    ],
}
QUALITY = {"RetrieveAll": 0.8, "shared adapter": 0.72, "LS-unLLaMA": 0.65, "CRF, per language": 0.5}


def _rows(quality: float, language: str, seed: int, *, routed: bool, probable: bool) -> list[Row]:
    gold_of, choose = random.Random(language), random.Random(f"{language} {seed} {quality}")
    rows = []
    for _ in range(60):
        gold = [(10 * i, 10 * i + 5, gold_of.choice(LABELS)) for i in range(gold_of.randint(1, 3))]
        found: dict[tuple[int, int, str], float] = {}
        for start, end, label in gold:
            p = choose.random()
            if p < quality:
                found[start, end, label] = 0.5 + p / 2
            elif p < 0.9:
                found[start, end + choose.choice((0, 1)), choose.choice(LABELS)] = p / 2
        seen = tuple(gold_of.random() < 0.4 for _ in gold)
        other = LANGUAGES[(LANGUAGES.index(language) + 1) % 4]
        rows.append(
            Row(
                tuple(gold),
                tuple(found),
                (True,) * len(gold),
                seen,
                gold_of.random() < 0.1,
                tuple(found.values()) if probable else (),
                (language if choose.random() < 0.9 else other) if routed else None,
            )
        )
    return rows


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results as the cells of ``RAW`` would leave them; PromptNER has not been run for want of weights."""
    out = tmp_path_factory.mktemp("made-up")
    config = parse_config(BenchmarkConfig, RAW, "made up")
    corpora = {
        language: Corpus(
            language,
            [Sentence(f"{language} {n}") for n in range(1000)],
            [],
            [Gold(Sentence("x"), ())],
        )
        for language in LANGUAGES
    }
    labels = tuple(LabelConfig(name=name) for name in LABELS)
    cells = cells_of(config, corpora, labels)
    (out / CONFIG).write_text(dump_yaml(config), encoding="utf-8")
    (out / PLAN).write_text(json.dumps({"cells": [cell.folder for cell in cells]}))
    provenance = Provenance(commit="0" * 40, date="2026-11-26", machine={"processor": "CPU", "cpus": 2})
    for cell in cells:
        folder = out / CELLS / cell.folder
        save_cell(cell, labels, folder, out)
        if cell.method.name == "PromptNER":
            (folder / FAILED).write_text("expected the backbone in 'x' or a hub id, found neither; check")
            continue
        rows = {}
        for language in cell.languages:
            quality = QUALITY[cell.method.name] - 0.25 / (cell.sizes[language] / 50) ** 0.5
            quality -= 0.03 * len(cell.languages) * (cell.method.name == "shared adapter")
            own = cell.method.name == "RetrieveAll"
            rows[language] = _rows(
                quality, language, cell.seed, routed=own, probable=not cell.method.name.startswith("CRF")
            )
        _write(folder, cell, rows, provenance)
    return out


def _write(folder: Path, cell: Any, rows: dict[str, list[Row]], provenance: Provenance) -> None:
    sentences = sum(map(len, rows.values()))
    result = {
        "method": {"name": cell.method.name},
        "languages": cell.languages,
        "sizes": cell.sizes,
        "seed": cell.seed,
        "backbone": {"path": "owner/model"},
        "scores": {language: summary(own) for language, own in rows.items()},
        "cost": {
            "training_seconds": 600.0 * len(cell.languages) * QUALITY[cell.method.name] ** 4,
            "training_processor_seconds": 1200.0,
            "predicting_seconds": sentences / 100 / QUALITY[cell.method.name] ** 3,
            "sentences": sentences,
            "sentences_per_second": 100,
            "peak_memory_mb": 900.0,
            "gpu_memory_mb": None,
            "trained_mb": 2.5,
        },
        "provenance": {
            "commit": provenance.commit,
            "modified": False,
            "machine": provenance.machine,
            "versions": {"python": "3.11"},
            "date": provenance.date,
        },
    }
    (folder / RESULT).write_text(json.dumps(result))
    (folder / "predictions.jsonl").write_bytes(dump_rows(rows))


@pytest.fixture(scope="module")
def report(made_up: Path) -> str:
    write_report(made_up)
    return (made_up / "report.md").read_text(encoding="utf-8")


def test_the_table_holds_means_and_deviations_over_seeds(made_up: Path, report: str) -> None:
    results = Results.load(made_up)
    values = f1_values(results, "RetrieveAll", "de")
    assert len(values) == 3
    mean = sum(values) / 3
    deviation = (sum((each - mean) ** 2 for each in values) / 2) ** 0.5
    line = next(line for line in report.splitlines() if line.startswith("| RetrieveAll |"))
    assert f"{100 * mean:.1f} ± {100 * deviation:.1f}" in line
    assert f"| {100 * (mean_f1(results, 'RetrieveAll') or 0):.1f} |" in line


def test_methods_in_some_languages_only_are_marked(report: str) -> None:
    line = next(line for line in report.splitlines() if line.startswith("| CRF, per language |"))
    assert "(of 2)" in line
    assert line.count("–") >= 2


def test_a_method_without_weights_says_so(report: str) -> None:
    assert "PromptNER: needs weights" in report
    assert "found neither" in report  # the reason stands below


def test_main_figures_leave_out_other_sizes_and_sets(made_up: Path) -> None:
    results = Results.load(made_up)
    for language, runs in results.main("shared adapter").items():
        assert {run.sizes[language] for run in runs} == {250}
        assert {len(run.languages) for run in runs} == {4}


def test_points_of_sizes_and_sets(made_up: Path) -> None:
    results = Results.load(made_up)
    assert list(size_points(results, "LS-unLLaMA")) == [50, 250, 1000]
    points = growth_points(results, "shared adapter")
    assert {key[0] for key in points["en"]} == {1, 2, 3, 4}
    assert {key[0] for key in points["ja"]} == {4}


def test_all_figures_are_drawn_and_the_same_twice(made_up: Path, report: str) -> None:
    figures = {path.stem: path.read_bytes() for path in (made_up / "figures").iterdir()}
    assert set(figures) == {"f1", "sizes", "growth", "cost", "routing", "reliability"}
    assert all(f"figures/{name}.svg" in report for name in figures)
    write_report(made_up)
    assert figures == {path.stem: path.read_bytes() for path in (made_up / "figures").iterdir()}


def test_the_page_is_one_file(made_up: Path, report: str) -> None:
    page = (made_up / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert not re.search(r"<script|<link|<img|src=|url\(http|@import", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_predictions_come_back_as_they_were(made_up: Path) -> None:
    results = Results.load(made_up)
    for run in results.runs[:4]:
        for language, rows in run.rows.items():
            assert summary(rows)["f1"] == pytest.approx(run.result["scores"][language]["f1"])
            assert score([replace(row, predicted=row.gold) for row in rows]).micro.f1 == 1.0


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="retrieveall benchmark CONFIG"):
        write_report(tmp_path)
