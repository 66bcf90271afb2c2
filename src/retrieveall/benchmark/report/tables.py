"""The tables of a report, in Markdown. Figures are in per cent, means over languages of means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import itemgetter
from typing import Any

from retrieveall.benchmark.cells import slug
from retrieveall.benchmark.errors import (
    Errors,
    analyse,
    confusion,
    expected_error,
    reliability,
    seen_recall,
    sentence_f1,
)
from retrieveall.benchmark.report.results import Results, Run
from retrieveall.benchmark.scores import Comparison, Row
from retrieveall.evaluation.report import markdown_table, per_cent

__all__ = [
    "amount",
    "compared",
    "compared_in_detail",
    "cost_of",
    "costs",
    "error_shares",
    "errors",
    "errors_by_language",
    "f1_by_language",
    "f1_values",
    "growth",
    "growth_points",
    "label_scores",
    "mean_and_number",
    "mean_f1",
    "missing",
    "more_scores",
    "p_value",
    "provenance",
    "routing",
    "seen",
    "size_points",
    "sizes",
]

Ratio = float | None


def mean(values: Sequence[Ratio]) -> Ratio:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def spread(values: Sequence[float]) -> str:
    """``mean ± deviation`` in per cent; the deviation only where there is more than one seed."""
    if not values:
        return "–"
    if len(values) == 1:
        return per_cent(values[0])
    return f"{per_cent(statistics.fmean(values))} ± {100 * statistics.stdev(values):.1f}"


def f1_values(results: Results, method: str, language: str) -> list[float]:
    """F1 of each seed."""
    return [run.result["scores"][language]["f1"] for run in results.main(method).get(language, [])]


def mean_f1(results: Results, method: str) -> Ratio:
    """Mean over languages of means over seeds."""
    return mean([mean(f1_values(results, method, language)) for language in results.languages])


def f1_by_language(results: Results) -> str:
    """F1 of each method and language, and how it compares with the reference."""
    against = results.comparisons
    header = ["method", "mean", "difference", "95% interval", "p", *results.languages]
    rows = []
    for method in results.methods:
        cells = [spread(f1_values(results, method, language)) for language in results.languages]
        rows.append([method, mean_and_number(results, method), *compared(against.get(method)), *cells])
    rows += [[name, *[""] * (len(header) - 1)] for name in unfinished(results)]
    return markdown_table(header, rows)


def mean_and_number(results: Results, method: str) -> str:
    """The mean, with the number of languages where some have no result."""
    number = len(results.main(method))
    partly = "" if number == len(results.languages) else f" (of {number})"
    return per_cent(mean_f1(results, method)) + partly


def compared(found: Comparison | None) -> list[str]:
    """Difference, interval and p of a comparison, as cells of a table."""
    if found is None:
        return ["", "", ""]
    low, high = (f"{100 * bound:+.1f}" for bound in (found.low, found.high))
    return [f"{100 * found.difference:+.1f}", f"{low} to {high}", p_value(found)]


def p_value(found: Comparison) -> str:
    """The p of a comparison to three digits."""
    return "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"


def unfinished(results: Results) -> list[str]:
    """Methods without any run, with the reason."""
    names = [method.name for method in results.config.methods if method.name not in results.methods]
    return [f"{name}: {_reason(results, name)}" for name in names]


def _reason(results: Results, method: str) -> str:
    prefix = slug(method)
    reasons = [reason for name, reason in results.missing if name.startswith(f"{prefix}.")]
    reason = reasons[0] if reasons else "not run yet"
    signs = (
        "expected the backbone in",
        "expected a backbone, got none",
        "as a Hugging Face folder",
        "expected tokenizer.json in",
        "could not load the",
    )
    weights = any(sign in reason for sign in signs)
    return "needs weights" if weights else reason[:120]


def more_scores(results: Results) -> str:
    """Precision, recall, strict, macro and unseen F1, as means over languages."""
    keys = {
        "F1": "f1",
        "precision": "precision",
        "recall": "recall",
        "strict F1": "strict_f1",
        "macro F1": "macro_f1",
        "F1 on sentences not in training": "unseen_f1",
    }
    rows = [
        [method, *(per_cent(_mean_score(results, method, itemgetter(key))) for key in keys.values())]
        for method in results.methods
    ]
    return markdown_table(["method", *keys], rows)


def label_scores(results: Results) -> str:
    """F1 of each label, as means over languages."""
    labels = sorted(
        {label for run in results.runs for one in run.result["scores"].values() for label in one["by_label"]}
    )
    rows = [
        [
            method,
            *(per_cent(_mean_score(results, method, partial(_of_label, label))) for label in labels),
        ]
        for method in results.methods
    ]
    return markdown_table(["method", *labels], rows)


def _of_label(label: str, one: Mapping[str, Any]) -> Ratio:
    found: Ratio = one["by_label"].get(label)
    return found


def _mean_score(results: Results, method: str, get: Callable[[Mapping[str, Any]], Ratio]) -> Ratio:
    by_language = results.main(method)
    return mean([mean([get(run.result["scores"][language]) for run in runs]) for language, runs in by_language.items()])


def _rows(results: Results, method: str) -> list[Row]:
    """All test sentences of all languages and seeds of a method."""
    return [row for language, runs in results.main(method).items() for run in runs for row in run.rows[language]]


def errors(results: Results) -> str:
    """Kinds of error as shares of the gold entities."""
    rows = [[method, *map(per_cent, error_shares(results, method).values())] for method in results.methods]
    header = ["method", "correct", "boundary", "type", "boundary and type", "missed", "spurious"]
    return markdown_table(header, rows)


def error_shares(results: Results, method: str) -> dict[str, float]:
    """Numbers of ``Errors`` over the number of gold entities, by kind."""
    return _shares(analyse(_rows(results, method)))


def _shares(found: Errors) -> dict[str, float]:
    gold = found.correct + found.boundary + found.type + found.both + found.missed
    return {each.name: getattr(found, each.name) / gold if gold else 0.0 for each in fields(Errors)}


def compared_in_detail(results: Results) -> list[str]:
    """The reference and the baseline with the highest mean F1, if there is one."""
    others = [name for name in results.baselines if name != results.reference]
    return [results.reference, *sorted(others, key=lambda name: mean_f1(results, name) or 0.0)[-1:]]


def errors_by_language(results: Results) -> str:
    """Errors and recall of the reference and the best baseline in each language."""
    rows = []
    for language in results.languages:
        for method in compared_in_detail(results):
            runs = results.main(method).get(language, [])
            own = [row for run in runs for row in run.rows[language]]
            recalls = [found / gold if gold else None for found, gold in seen_recall(own)]
            figures = [mean(f1_values(results, method, language)), *_shares(analyse(own)).values(), *recalls]
            rows.append([f"{language}, {method}", *map(per_cent, figures)])
    header = ["", "F1", "correct", "boundary", "type", "boundary and type", "missed", "spurious"]
    return markdown_table([*header, "recall, seen mentions", "recall, unseen"], rows)


def seen(results: Results) -> str:
    """Recall on mentions seen in training and on others; F1 on sentences that are in training and on others."""
    rows = []
    for method in results.methods:
        own = _rows(results, method)
        recalls = [found / gold if gold else None for found, gold in seen_recall(own)]
        rows.append([method, *(per_cent(each) for each in (*recalls, *sentence_f1(own)))])
    share = seen_recall(_rows(results, results.methods[0])) if results.methods else ((0, 0), (0, 0))
    total = share[0][1] + share[1][1]
    known = per_cent(share[0][1] / total if total else None)
    header = ["method", "recall, seen mentions", "recall, unseen", "F1, sentences in training", "F1, others"]
    note = f"{known}% of the gold mentions are seen in the training sentences of their language."
    return f"{markdown_table(header, rows)}\n\n{note}"


def cost_of(results: Results, method: str) -> dict[str, Ratio]:
    """Training and prediction of all languages with one seed: the mean over seeds."""
    runs = results.counted_once(run for own in results.main(method).values() for run in own)
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    totals = [_total_cost(own) for own in by_seed.values()]
    return {key: mean([total[key] for total in totals]) for key in totals[0]} if totals else {}


def _total_cost(runs: Sequence[Run]) -> dict[str, Ratio]:
    seconds = sum(run.cost["predicting_seconds"] for run in runs)
    gpu = [run.cost["gpu_memory_mb"] for run in runs if run.cost["gpu_memory_mb"] is not None]
    return {
        "training_minutes": sum(run.cost["training_seconds"] for run in runs) / 60,
        "processor_minutes": sum(run.cost["training_processor_seconds"] for run in runs) / 60,
        "sentences_per_second": sum(run.cost["sentences"] for run in runs) / seconds if seconds else None,
        "memory_mb": max((run.cost["peak_memory_mb"] or 0.0 for run in runs), default=None),
        "gpu_memory_mb": max(gpu, default=None),
        "trained_mb": sum(run.cost["trained_mb"] for run in runs),
    }


def amount(value: Ratio, digits: int = 1) -> str:
    """A number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def costs(results: Results) -> str:
    """What a method costs, beside what it scores."""
    rows = []
    for method in results.methods:
        cost = cost_of(results, method)
        figures = [
            amount(cost["training_minutes"]),
            amount(cost["processor_minutes"]),
            amount(cost["sentences_per_second"]),
            amount(cost["memory_mb"], 0),
            amount(cost["gpu_memory_mb"], 0),
            amount(cost["trained_mb"]),
        ]
        rows.append([method, per_cent(mean_f1(results, method)), *figures])
    header = [
        "method",
        "F1",
        "training, min",
        "processor, min",
        "sentences/s",
        "memory, MB",
        "GPU, MB",
        "trained, MB",
    ]
    return markdown_table(header, rows)


def size_points(results: Results, method: str) -> dict[int, float]:
    """Mean F1 over the languages whose number of training sentences varies, by that number; all languages together."""
    small = results.config.small or results.languages
    most = max((len(run.languages) for run in results.runs if run.method == method), default=0)
    values: dict[int, dict[str, list[float]]] = {}
    for run in results.runs:
        if run.method == method and len(run.languages) == most:
            for language in run.languages:
                if language in small:
                    own = values.setdefault(run.sizes[language], {}).setdefault(language, [])
                    own.append(run.result["scores"][language]["f1"])
    means = {size: mean([mean(own) for own in by.values()]) for size, by in sorted(values.items())}
    return {size: value for size, value in means.items() if value is not None}


def sizes(results: Results) -> str:
    """F1 against the number of training sentences."""
    points = {method: size_points(results, method) for method in results.methods}
    numbers = sorted({size for own in points.values() for size in own})
    rows = [[method, *(per_cent(own.get(size)) for size in numbers)] for method, own in points.items()]
    return markdown_table(["method", *(f"{size:,}" for size in numbers)], rows)


def growth_points(results: Results, method: str) -> dict[str, dict[tuple[int, str], float]]:
    """F1 by language, then by (number of languages trained together, sizes): how each fares as others join."""
    found: dict[str, dict[tuple[int, str], list[float]]] = {}
    for run in results.runs:
        if run.method == method:
            for language in run.languages:
                key = len(run.languages), f"{run.sizes[language]:,}"
                values = found.setdefault(language, {}).setdefault(key, [])
                values.append(run.result["scores"][language]["f1"])
    return {
        language: {key: sum(values) / len(values) for key, values in sorted(by.items())}
        for language, by in found.items()
    }


def growth(results: Results) -> str:
    """F1 of each language by the number of languages that were trained together."""
    together = sorted({len(run.languages) for run in results.runs})
    rows = []
    for method in results.methods:
        points = growth_points(results, method)
        if len({key[0] for by in points.values() for key in by}) < 2:
            continue
        for language in results.languages:
            for size in sorted(
                {key[1] for key in points.get(language, {})}, key=lambda text: int(text.replace(",", ""))
            ):
                row = [per_cent(points[language].get((number, size))) for number in together]
                rows.append([method, language, size, *row])
    return markdown_table(["method", "language", "sentences", *(f"{n} together" for n in together)], rows)


def routing(results: Results) -> str:
    """How often the adapter of the right language ran, and the calibration of the probabilities."""
    rows = []
    for method in results.methods:
        table = confusion({k: [row for run in runs for row in run.rows[k]] for k, runs in results.main(method).items()})
        total = sum(sum(own.values()) for own in table.values())
        right = sum(own.get(language, 0) for language, own in table.items())
        error = expected_error(reliability(_rows(results, method)))
        if total or error is not None:
            rows.append([method, per_cent(right / total if total else None), per_cent(error)])
    return markdown_table(["method", "routed to its language", "calibration error"], rows)


def missing(results: Results) -> str:
    """Why cells have no result, the first of them and how many; empty if all have one."""
    names: dict[str, list[str]] = {}
    for name, reason in results.missing:
        names.setdefault(reason[:200], []).append(name)
    rows = [[own[0], str(len(own)), reason] for reason, own in names.items()]
    return markdown_table(["first cell", "cells", "reason"], rows) if rows else ""


def provenance(results: Results) -> str:
    """Where the results come from: machines, versions, commits, backbones; one line for each kind."""
    lines = set()
    for run in results.runs:
        origin = run.result["provenance"]
        backbone = (run.result["backbone"] or {}).get("path")
        commit = origin["commit"][:12] if origin["commit"] else "none"
        changed = " with local changes" if origin["modified"] else ""
        versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items() if number)
        machine = f"{origin['machine']['processor']}, {origin['machine']['cpus']} CPUs"
        lines.add(
            f"- backbone {backbone or 'none'}; commit `{commit}`{changed}; {machine}; {versions}; {origin['date'][:10]}"
        )
    return "\n".join(sorted(lines))
