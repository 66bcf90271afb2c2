"""What README and documents say of shipped results: claims and tables, written from the files alone.

Every claim names the results that it comes from. The words follow the numbers: a difference whose interval holds zero
is not called one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieveall.benchmark.report import tables
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.runner import PLAN
from retrieveall.benchmark.scores import Comparison
from retrieveall.evaluation.report import markdown_table, per_cent

__all__ = ["PAPER_GAIN", "claims", "details", "find_results", "overview"]

PAPER_GAIN = 12.1
"""What the abstract of arXiv 2505.19128 reports on PAN-X: F1 above the mean of its baselines."""
_PANX = ("panx", "wikiann")
NONE = "No results of a benchmark are in this repository yet.\n"


def find_results(root: Path) -> list[Path]:
    """The folders of shipped results, by name."""
    return sorted(path.parent for path in root.glob(f"*/{PLAN}"))


def overview(folders: Sequence[Path], prefix: str) -> str:
    """For the README: of each benchmark its claims, and a table of the methods that were trained apart.

    Args:
        prefix: of links to the folders' parent, from the document.
    """
    return "\n\n".join(_overview(Results.load(folder), f"{prefix}/{folder.name}") for folder in folders) or NONE


def details(folders: Sequence[Path], prefix: str) -> str:
    """For docs/benchmark.md: claims, scores and cost, languages, and errors of all methods of each benchmark."""
    return "\n\n".join(_details(Results.load(folder), f"{prefix}/{folder.name}") for folder in folders) or NONE


def _overview(results: Results, path: str) -> str:
    source = _source(results, path)
    parts = [
        f"**{results.config.name}**: {_setting(results)} ({source}).",
        claims(results, source),
        _scores(results, _trained_apart(results)),
    ]
    return "\n\n".join(part for part in parts if part)


def _details(results: Results, path: str) -> str:
    source = _source(results, path)
    parts = [f"### {results.config.name}", f"{_setting(results)}. From {source}, which has figures and more tables."]
    parts += [claims(results, source), _scores(results, results.methods), tables.f1_by_language(results)]
    if results.has_predictions:
        parts += ["Errors, of 100 gold entities:", tables.errors(results), tables.seen(results)]
        parts += [_by_language(results)]
    return "\n\n".join(part for part in parts if part)


def _source(results: Results, path: str) -> str:
    return f"[{results.config.name}]({path}/report.md)"


def _setting(results: Results) -> str:
    config = results.config
    trained = sorted({results.main_size(language) for language in results.languages})
    tested = sorted({run.result["scores"][each]["sentences"] for run in results.runs for each in run.languages})
    backbones = sorted({run.result["backbone"]["path"] for run in results.runs if run.result["backbone"]})
    seeds = sorted({run.seed for run in results.runs})
    parts = [
        f"{Path(config.data.path).name}, {' '.join(results.languages)}",
        f"{_span(trained)} training and {_span(tested)} test sentences a language",
        f"backbone {' and '.join(backbones)}" if backbones else "",
        f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}",
    ]
    return "; ".join(filter(None, parts))


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def claims(results: Results, source: str = "") -> str:
    """How the reference stands to each baseline, one line each, with the source where there is one to name."""
    reference = results.reference
    if results.kind(reference) != "retrieveall" or not results.is_complete(reference):
        return ""
    against = results.comparisons
    lines = [_against_the_mean(results), *(_against(results, name, against.get(name)) for name in results.baselines)]
    ending = f" ({source})" if source else ""
    return "\n".join(f"- {line}{ending}" for line in lines if line)


def _against_the_mean(results: Results) -> str:
    own = 100 * (tables.mean_f1(results, results.reference) or 0.0)
    f1s = [f1 for name in results.baselines if (f1 := tables.mean_f1(results, name)) is not None]
    if not f1s:
        return f"{results.reference}: {own:.1f} F1."
    mean = 100 * sum(f1s) / len(f1s)
    where = f"{abs(own - mean):.1f} {'above' if own >= mean else 'below'} the mean of the baselines ({mean:.1f})"
    paper = f"; the paper reports {PAPER_GAIN} above" if Path(results.config.data.path).name in _PANX else ""
    return f"{results.reference}: {own:.1f} F1, {where}{paper}."


def _against(results: Results, name: str, found: Comparison | None) -> str:
    """How the reference stands to a baseline. ``found`` is the difference of the baseline to it."""
    if found is None:
        return ""
    difference, low, high = -100 * found.difference, -100 * found.high, -100 * found.low
    numbers = f"{_signed(difference)} F1, 95% interval {_signed(low)} to {_signed(high)}, p {tables.p_value(found)}"
    if low <= 0 <= high:
        return f"Not told apart from {name}: {numbers}."
    if difference > 0:
        return f"Ahead of {name}: {numbers}.{_except(results, name)}"
    return f"Behind {name}: {numbers}.{_why(results, name)}"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no minus before zero


def _except(results: Results, name: str) -> str:
    ahead = [
        each for each in results.languages if _language_f1(results, name, each) > _language_f1(results, None, each)
    ]
    return f" Not in {', '.join(ahead)}." if ahead else ""


def _language_f1(results: Results, name: str | None, language: str) -> float:
    values = tables.f1_values(results, name or results.reference, language)
    return sum(values) / len(values) if values else 0.0


def _why(results: Results, name: str) -> str:
    """Where the entities went that the baseline finds and the reference does not."""
    own, other = (tables.error_shares(results, each) for each in (results.reference, name))
    worse = sorted((own[kind] - other[kind], kind) for kind in own if kind != "correct")[-1]
    if worse[0] <= 0:
        return ""
    kind = {"boundary": "wrong boundaries", "type": "wrong types", "both": "wrong boundaries and types"}
    where = kind.get(worse[1], f"{worse[1]} entities")
    shares = f"{per_cent(own[worse[1]])} of 100 gold entities against {per_cent(other[worse[1]])}"
    return f" The largest difference is in {where}: {shares}."


def _by_language(results: Results) -> str:
    table = tables.errors_by_language(results)
    return f"The same by language, {' and '.join(tables.compared_in_detail(results))}:\n\n{table}" if table else ""


def _trained_apart(results: Results) -> list[str]:
    """Without ablations that run the trained model of the reference in another way."""
    prints = {name: {run.result["model_fingerprint"] for run in results.of(name)} for name in results.methods}
    own = prints[results.reference]
    return [name for name in results.methods if name == results.reference or prints[name] != own]


def _scores(results: Results, methods: Sequence[str]) -> str:
    """F1, its difference to the reference, and what it costs."""
    against = results.comparisons
    rows = []
    for name in methods:
        cost = tables.cost_of(results, name)
        shown = [tables.amount(cost[key], digits) for key, digits in _COST.items()]
        rows.append([name, tables.mean_and_number(results, name), *tables.compared(against.get(name)), *shown])
    header = ["method", "F1", f"to {results.reference}", "95% interval", "p", "training, min", "sentences/s"]
    return markdown_table([*header, "memory, MB", "trained, MB"], rows)


_COST = {"training_minutes": 1, "sentences_per_second": 1, "memory_mb": 0, "trained_mb": 1}
