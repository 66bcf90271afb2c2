"""Reports to files and back, as tables, and in the README."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from retrieveall.errors import DataError, InputError, ModelFolderError
from retrieveall.evaluation import (
    EvaluationReport,
    LanguageReport,
    Provenance,
    SpanScores,
    load_reports,
    provenance,
    render_table,
)

Make = Callable[..., EvaluationReport]


def test_a_saved_report_comes_back_equal(make_report: Make, tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path / "deep" / "report.json")
    assert EvaluationReport.load(tmp_path / "deep" / "report.json") == report
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.json"]


def test_a_report_without_optional_figures_comes_back_equal(tmp_path: Path) -> None:
    report = EvaluationReport({"xx": LanguageReport(1, SpanScores())}, "gold")
    report.save(tmp_path / "report.json")
    assert EvaluationReport.load(tmp_path / "report.json") == report


def test_the_word_told_of_older_reports_is_read_as_gold(make_report: Make) -> None:
    report = make_report(choice="gold")
    assert EvaluationReport.from_dict({**report.to_dict(), "choice": "told"}) == report


def test_a_failed_write_keeps_the_old_report(
    make_report: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    make_report().save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retrieveall.storage.files.os.fsync", full)
    with pytest.raises(ModelFolderError, match="No space left"):
        make_report(data="other").save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"format": 2}', b"[" * 100_000],
    ids=["empty", "list", "keys", "bytes", "format", "deep"],
)
def test_what_is_no_report_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"report\.json: expected an evaluation report") as error:
        EvaluationReport.load(path)
    assert "\n" not in str(error.value)


def test_a_report_with_an_unknown_choice_or_key_is_refused(make_report: Make, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    raw = make_report().to_dict()
    for change in ({"choice": "guessed"}, {"provenance": {"colour": "red"}}, {"languages": {"de": {}}}):
        path.write_text(json.dumps({**raw, **change}))
        with pytest.raises(DataError):
            EvaluationReport.load(path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not read the report"):
        load_reports([tmp_path / "none.json"])


def test_the_mean_is_over_languages_that_have_the_figure(make_report: Make) -> None:
    mean = make_report().mean
    assert mean["f1"] == pytest.approx((0.5 + 1.0) / 2)
    assert mean["calibration_error"] == pytest.approx(0.15)
    assert mean["spurious_rate"] == 0.25  # German has no entity-free sentence


def test_markdown(make_report: Make) -> None:
    assert make_report().to_markdown() == (
        "| language | sentences | F1 | precision | recall | F1 LOC | F1 PER | F1 unseen | calibration error "
        "| routed right | spurious | sentences/s |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| de | 4 | 50.0 | 50.0 | 50.0 | 50.0 | – | 50.0 | 25.0 | 50.0 | – | 2 |\n"
        "| en | 8 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 5.0 | 100.0 | 25.0 | 4 |\n"
        "| mean | 12 | 75.0 | 75.0 | 75.0 | 75.0 | 100.0 | 75.0 | 15.0 | 75.0 | 25.0 | 3 |"
    )


def test_a_label_with_a_bar_does_not_break_the_table(make_report: Make) -> None:
    scores = make_report().languages["de"].scores.by_label["LOC"]
    report = make_report(languages={"de": LanguageReport(1, SpanScores({"A|B": scores}))})
    header, rule, *_ = report.to_markdown().splitlines()
    assert r"F1 A\|B" in header
    assert header.replace(r"\|", "").count("|") == rule.count("|")


def test_results_table(make_report: Make) -> None:
    fixed = make_report(choice="gold", languages={"en": make_report().languages["en"]})
    assert render_table([make_report(), fixed]) == (
        "| entity-level micro F1 | de | en | mean |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| fake, toy test, routed | 50.0 | 100.0 | 75.0 |\n"
        "| fake, toy test, routed, without sentences that also occur in the training data | 50.0 | 100.0 | 75.0 |\n"
        "| fake, toy test, gold language | – | 100.0 | 100.0 |\n"
        "| fake, toy test, gold language, without sentences that also occur in the training data "
        "| – | 100.0 | 100.0 |\n"
        "\n"
        "- fake, toy test, routed: 12 sentences; commit `0123456789ab`; model `fedcba987654`; 2025-01-02; "
        "abacus; 1 threads; torch 2.13.0\n"
        "- fake, toy test, gold language: 8 sentences; commit `0123456789ab`; model `fedcba987654`; "
        "2025-01-02; abacus; 1 threads; torch 2.13.0"
    )


def test_no_reports_make_no_table() -> None:
    with pytest.raises(InputError, match="at least one report"):
        render_table([])


def test_local_changes_are_admitted(make_report: Make) -> None:
    changed = replace(make_report().provenance, modified=True)
    assert "commit `0123456789ab` with local changes" in render_table([make_report(provenance=changed)])


def test_provenance_of_a_model_folder(make_model: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{}")
    found = Provenance.collect(make_model({}, {}, folder=tmp_path))
    assert found.manifest_sha256 == hashlib.sha256(b"{}").hexdigest()
    assert found.model == "fake"
    assert found.date.endswith("+00:00")
    assert found.versions["python"]
    assert found.machine["cpus"] >= 1


def test_the_commit_is_that_of_the_source_tree() -> None:
    root = Path(provenance.__file__).parents[3]
    if not (root / ".git").exists():
        pytest.skip("not in a checkout")
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert Provenance.collect().commit == git.stdout.strip()


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Provenance.collect()
    assert (found.commit, found.modified) == (None, None)


def test_a_repository_around_an_installed_package_is_not_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "site-packages" / "retrieveall" / "evaluation"
    package.mkdir(parents=True)
    (tmp_path / "other.txt").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "other.txt"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert Provenance.collect().commit is None


def test_the_command_line_hides_where_the_interpreter_is(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["/home/me/venv/bin/python", "/home/me/venv/bin/retrieveall", "evaluate", "my data"]
    monkeypatch.setattr("sys.orig_argv", command)
    assert Provenance.collect().command == "python retrieveall evaluate 'my data'"


def test_a_table_for_a_terminal_fits_and_has_every_figure(make_report: Make) -> None:
    report = make_report()
    lines = report.to_text(60).splitlines()
    assert max(map(len, lines)) <= 60
    header, _, *rows = [line.strip("| ").split(" | ") for line in report.to_markdown().splitlines()]
    text = "\n".join(lines)
    for cell in {cell for row in (header, *rows) for cell in row}:
        assert cell in text
    blocks = text.split("\n\n")
    assert len(blocks) > 1
    for block in blocks:
        assert [line.split()[0] for line in block.splitlines()] == ["language", *(row[0] for row in rows)]
