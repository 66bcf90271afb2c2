"""The results table of the README, from saved reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from retrieveall.errors import InputError
from retrieveall.evaluation.report import EvaluationReport, markdown_table, per_cent

__all__ = ["load_reports", "render_table"]


def load_reports(paths: Iterable[Path | str]) -> list[EvaluationReport]:
    """The reports in the given files, in order.

    Raises:
        DataError: a file that is missing or not a report.
    """
    return [EvaluationReport.load(path) for path in paths]


def render_table(reports: Sequence[EvaluationReport]) -> str:
    """Micro F1 in per cent, one column per language, two rows per report: all and unseen sentences.

    Below the table, one line per report gives its provenance.

    Raises:
        InputError: no reports.
    """
    if not reports:
        raise InputError("expected at least one report for the table, got none")
    languages = list(dict.fromkeys(name for report in reports for name in report.languages))
    rows = [row for report in reports for row in _rows(report, languages)]
    table = markdown_table(["entity-level micro F1", *languages, "mean"], rows)
    return "\n\n".join([table, "\n".join(f"- {_origin(report)}" for report in reports)])


def _rows(report: EvaluationReport, languages: Sequence[str]) -> list[list[str]]:
    def row(name: str, figures: dict[str, float | None], mean: float | None) -> list[str]:
        return [name, *(per_cent(figures.get(language)) for language in languages), per_cent(mean)]

    mean = report.mean
    rows = [row(_title(report), {name: one.f1 for name, one in report.languages.items()}, mean["f1"])]
    if mean["unseen_f1"] is not None:
        unseen = {name: one.unseen_f1 for name, one in report.languages.items()}
        rows.append(
            row(f"{_title(report)}, without sentences that also occur in the training data", unseen, mean["unseen_f1"])
        )
    return rows


def _title(report: EvaluationReport) -> str:
    choice = "routed" if report.choice == "routed" else "gold language"
    return ", ".join(part for part in (report.provenance.model, report.data, choice) if part)


def _origin(report: EvaluationReport) -> str:
    origin = report.provenance
    sentences = sum(one.sentences for one in report.languages.values())
    commit = "no commit" if origin.commit is None else f"commit `{origin.commit[:12]}`"
    if origin.modified:
        commit += " with local changes"
    machine = origin.machine
    parts = [
        f"{_title(report)}: {sentences:,} sentences",
        commit,
        f"model `{origin.manifest_sha256[:12]}`" if origin.manifest_sha256 else "",
        origin.date[:10],
        f"{machine['processor']}" if machine.get("processor") else "",
        f"{machine['threads']} threads" if machine.get("threads") else "",
        f"torch {origin.versions['torch']}" if origin.versions.get("torch") else "",
    ]
    return "; ".join(part for part in parts if part)
