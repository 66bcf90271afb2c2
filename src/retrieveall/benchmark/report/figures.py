"""The figures of a report as SVG, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import re
from typing import Any

from retrieveall.benchmark.errors import confusion, reliability
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.report.tables import cost_of, f1_values, growth_points, is_complete, mean_f1, size_points
from retrieveall.errors import MissingExtraError

__all__ = ["draw_all"]

# Okabe and Ito's colours, which differ for colour-blind readers too; marks differ beside.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000", "#B8A900")
MARKS = "osD^vP*Xh"


def draw_all(results: Results) -> dict[str, tuple[str, str]]:
    """Title and SVG of each figure that the results have something for, by name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plt = _pyplot()
    drawn = {}
    for name, (title, draw) in _FIGURES.items():
        figure = draw(plt, results)
        if figure is not None:
            drawn[name] = title, _svg(figure)
            plt.close(figure)
    return drawn


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("matplotlib", "benchmark", "the figures of a report") from None
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.axisbelow": True,
            "svg.fonttype": "none",  # text stays text: small, and can be searched
            "svg.hashsalt": "retrieveall",  # the same file for the same figures
            "font.family": "sans-serif",
        }
    )
    return plt


def _svg(figure: Any) -> str:
    target = io.StringIO()
    figure.savefig(target, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = target.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _style(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)]}


def _log_scale(axes: Any) -> None:
    """A logarithmic x axis over at least a decade, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    middle = (low * high) ** 0.5
    axes.set_xlim(min(low, middle / 10**0.5), max(high, middle * 10**0.5))
    wide = high > 100 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, columns: int = 1) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, ncols=columns)


def _f1_by_language(plt: Any, results: Results) -> Any:
    methods, languages = results.methods, [*results.languages, "mean"]
    if not methods:
        return None
    width = 0.85 / len(methods)
    figure, axes = plt.subplots(figsize=(min(14.0, max(6.0, 0.2 * len(languages) * (len(methods) + 1))), 3.6))
    for number, method in enumerate(methods):
        groups = [f1_values(results, method, language) for language in results.languages]
        values = [100 * sum(own) / len(own) if own else 0.0 for own in groups]
        lows = [value - 100 * min(own) if own else 0.0 for value, own in zip(values, groups, strict=True)]
        highs = [100 * max(own) - value if own else 0.0 for value, own in zip(values, groups, strict=True)]
        whole = mean_f1(results, method) if is_complete(results, method) else None
        values.append(100 * (whole or 0.0))
        places = [place + (number - (len(methods) - 1) / 2) * width for place in range(len(languages))]
        hatch = "///" if number >= len(COLOURS) else None  # where colours come a second time
        axes.bar(places, values, width * 0.92, label=method, color=COLOURS[number % len(COLOURS)], hatch=hatch)
        if any(len(own) > 1 for own in groups):
            axes.errorbar(places[:-1], values[:-1], yerr=[lows, highs], fmt="none", ecolor="#333333", elinewidth=1)
    axes.set_xticks(range(len(languages)), languages)
    axes.set_ylabel("F1, %")
    axes.grid(visible=False, axis="x")
    _legend(axes)
    return figure


def _f1_by_size(plt: Any, results: Results) -> Any:
    points = {method: size_points(results, method) for method in results.methods}
    if max((len(own) for own in points.values()), default=0) < 2:
        return None
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for number, (method, own) in enumerate(points.items()):
        axes.plot(list(own), [100 * value for value in own.values()], label=method, **_style(number))
    axes.set_xscale("log")
    ticks = sorted({size for own in points.values() for size in own})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training sentences a language")
    axes.set_ylabel("F1, %")
    _legend(axes)
    return figure


def _growth(plt: Any, results: Results) -> Any:
    methods = [
        method
        for method in results.methods
        if len({key[0] for by in growth_points(results, method).values() for key in by}) > 1
    ]
    if not methods:
        return None
    figure, all_axes = plt.subplots(1, len(methods), figsize=(4.2 * len(methods), 3.6), sharey=True, squeeze=False)
    for axes, method in zip(all_axes[0], methods, strict=True):
        points = growth_points(results, method)
        for number, language in enumerate(each for each in results.languages if each in points):
            size = f"{results.main_size(language):,}"
            own = {key[0]: 100 * value for key, value in points[language].items() if key[1] == size}
            axes.plot(list(own), list(own.values()), label=language, **_style(number))
        axes.set_title(method, fontsize=10)
        axes.set_xlabel("languages trained together")
        axes.xaxis.get_major_locator().set_params(integer=True)
    all_axes[0][0].set_ylabel("F1, %")
    _legend(all_axes[0][-1])
    return figure


def _cost_against_f1(plt: Any, results: Results) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for number, method in enumerate(results.methods):
        if not is_complete(results, method):
            continue
        cost, f1 = cost_of(results, method), 100 * (mean_f1(results, method) or 0.0)
        style = _style(number) | {"linestyle": "none", "label": method}
        left.plot([max(cost["training_minutes"] or 0.0, 0.01)], [f1], **style)
        right.plot([cost["sentences_per_second"] or 0.01], [f1], **style)
    for axes, label in ((left, "minutes of training (at least 0.01)"), (right, "sentences a second")):
        _log_scale(axes)
        axes.set_xlabel(label)
    left.set_ylabel("mean F1, %")
    _legend(right)
    return figure if results.methods else None


def _routing(plt: Any, results: Results) -> Any:
    tables = {}
    for method in results.methods:
        runs = results.main(method)
        table = confusion({k: [row for run in own for row in run.rows[k]] for k, own in runs.items()})
        if table:
            tables[method] = table
    if not tables:
        return None
    columns = min(3, len(tables))
    lines = -(-len(tables) // columns)
    size = (4.4 * columns, 4.4 * lines)
    figure, all_axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    places = [axes for line in all_axes for axes in line]
    for axes in places[len(tables) :]:
        axes.set_axis_off()
    for axes, (method, table) in zip(places, tables.items(), strict=False):
        names = list(results.languages)
        if any("none" in own for own in table.values()):
            names.append("none")
        shares = [
            [100 * table.get(row, {}).get(name, 0) / max(1, sum(table.get(row, {}).values())) for name in names]
            for row in results.languages
        ]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                if share >= 0.5:
                    axes.text(x, y, f"{share:.0f}", ha="center", va="center", color="white" if share > 60 else "black")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(results.languages)), results.languages)
        axes.set_xlabel("adapter with the largest weight")
        axes.set_title(method, fontsize=10)
        axes.grid(visible=False)
    all_axes[0][0].set_ylabel("language of the sentence")
    return figure


def _reliability(plt: Any, results: Results) -> Any:
    found = {}
    for method in results.methods:
        rows = [row for language, runs in results.main(method).items() for run in runs for row in run.rows[language]]
        bins = reliability(rows)
        if bins:
            found[method] = bins
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 4))
    axes.plot([0, 100], [0, 100], color="#999999", linewidth=1, linestyle="--")
    for number, (method, bins) in enumerate(found.items()):
        places = [100 * each.probability for each in bins]
        axes.plot(places, [100 * each.correct for each in bins], label=method, **_style(number))
    axes.set_xlabel("probability of a predicted entity, %")
    axes.set_ylabel("correct, %")
    axes.set_aspect("equal")
    _legend(axes)
    return figure


_FIGURES = {
    "f1": ("F1 by language and method; lines from the lowest to the highest seed", _f1_by_language),
    "sizes": ("F1 against the number of training sentences", _f1_by_size),
    "growth": ("F1 of each language as others join", _growth),
    "cost": ("Cost against F1", _cost_against_f1),
    "routing": ("Routing: sentences of each language by adapter, %", _routing),
    "reliability": ("Reliability of the probabilities", _reliability),
}
