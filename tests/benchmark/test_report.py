"""The report of made-up results: every table and figure, and the numbers in them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from retrieveall.benchmark.report import write_report
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.report.tables import f1_values, growth_points, mean_f1, size_points
from retrieveall.benchmark.scores import score, summary
from retrieveall.errors import DataError

pytest.importorskip("matplotlib")


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


def test_a_report_begins_with_how_the_method_stands(made_up: Path, report: str) -> None:
    results = Results.load(made_up)
    own, other = (100 * (mean_f1(results, name) or 0) for name in ("RetrieveAll", "LS-unLLaMA"))
    line = f"- RetrieveAll: {own:.1f} F1, {own - other:.1f} above the mean of the baselines ({other:.1f});"
    assert line in report.split("## F1 by language")[0]


def test_errors_of_each_language_are_shown_for_the_method_and_the_best_baseline(made_up: Path, report: str) -> None:
    results = Results.load(made_up)
    for language in results.languages:
        for method in ("RetrieveAll", "LS-unLLaMA"):
            (line,) = (line for line in report.splitlines() if line.startswith(f"| {language}, {method} |"))
            values = [float(cell) for cell in line.split("|")[2:-1]]
            f1s = f1_values(results, method, language)
            assert values[0] == pytest.approx(100 * sum(f1s) / len(f1s), abs=0.06)
            assert sum(values[1:6]) == pytest.approx(100, abs=0.3)  # every gold entity once


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
