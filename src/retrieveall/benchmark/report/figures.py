"""The figures of a report as SVG, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from retrieveall.benchmark.errors import confusion, reliability
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.report.tables import cost_of, f1_values, growth_points, mean_f1, size_points
from retrieveall.errors import MissingExtraError

__all__ = ["check_installed", "draw_all"]

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
        figure = draw(plt, results) if results.has_predictions or name not in _OF_PREDICTIONS else None
        if figure is not None:
            drawn[name] = title, _svg(figure)
            plt.close(figure)
    return drawn


def check_installed() -> None:
    """Check that figures can be drawn, before anything runs whose report needs them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "benchmark", "the figures of a report")


def _pyplot() -> Any:
    check_installed()
    import matplotlib

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
    """Colour and mark of a line; where colours come a second time, their marks are others."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[(number + number // len(COLOURS)) % len(MARKS)]}


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
    """A line of dots for each method: methods may be many, and their names long."""
    methods = results.methods
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.34 * len(methods)))
    for row, method in enumerate(methods):
        for number, language in enumerate(results.languages):
            own = [100 * value for value in f1_values(results, method, language)]
            if own:
                height = row + 0.5 * ((number + 0.5) / len(results.languages) - 0.5)
                axes.plot([min(own), max(own)], [height, height], color="#bbbbbb", linewidth=1.5, zorder=1)
                axes.plot([sum(own) / len(own)], [height], linestyle="none", markersize=6, **_style(number))
        whole = mean_f1(results, method) if results.is_complete(method) else None
        if whole is not None:
            axes.plot([100 * whole] * 2, [row - 0.38, row + 0.38], color="#222222", linewidth=2.5)
    _label_rows(axes, methods)
    axes.set_xlabel("F1, %; upright lines: mean over languages")
    _legend_of_languages(plt, axes, results)
    return figure


def _label_rows(axes: Any, names: Sequence[str]) -> None:
    """Names from the top down, with a line between each two."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)


def _legend_of_languages(plt: Any, axes: Any, results: Results) -> None:
    marks = [plt.Line2D([], [], linestyle="none", **_style(number)) for number in range(len(results.languages))]
    axes.legend(marks, results.languages, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)


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
        axes.set_title(_wrapped(method, 45), fontsize=10)
        axes.set_xlabel("languages trained together")
        axes.xaxis.get_major_locator().set_params(integer=True)
    all_axes[0][0].set_ylabel("F1, %")
    _legend(all_axes[0][-1])
    return figure


def _cost_against_f1(plt: Any, results: Results) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for number, method in enumerate(results.methods):
        if not results.is_complete(method):
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
    figure, places = _panels(plt, len(tables), columns=3, size=4.4)
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
                if round(share) > 0:
                    axes.text(x, y, f"{share:.0f}", ha="center", va="center", color="white" if share > 60 else "black")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(results.languages)), results.languages)
        axes.set_xlabel("adapter with the largest weight")
        axes.set_title(_wrapped(method, 45), fontsize=10)
        axes.grid(visible=False)
    places[0].set_ylabel("language of the sentence")
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
    figure, places = _panels(plt, len(found), columns=4, size=2.3)
    for axes, (method, bins) in zip(places, found.items(), strict=False):
        axes.plot([0, 100], [0, 100], color="#999999", linewidth=1, linestyle="--")
        probable = [100 * each.probability for each in bins]
        axes.plot(probable, [100 * each.correct for each in bins], markersize=4, **_style(0))
        axes.set(xlim=(0, 100), ylim=(0, 105), xticks=(0, 50, 100), yticks=(0, 50, 100))
        axes.set_title(_wrapped(method, 24), fontsize=9)
    figure.supxlabel("probability of a predicted entity, %", fontsize=10)
    figure.supylabel("correct, %", fontsize=10)
    return figure


def _panels(plt: Any, number: int, columns: int, size: float) -> tuple[Any, list[Any]]:
    """A figure with a square panel of so many inches for each of ``number``."""
    columns = min(columns, number)
    lines = -(-number // columns)
    figsize = (max(size * columns, 3.2), (size + 0.3) * lines + 0.3)
    figure, grid = plt.subplots(lines, columns, figsize=figsize, squeeze=False, layout="constrained")
    places = [axes for line in grid for axes in line]
    for axes in places[number:]:
        axes.set_axis_off()
    return figure, places


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(name, width))


_FIGURES = {
    "f1": ("F1 by method and language; grey lines from the lowest to the highest seed", _f1_by_language),
    "sizes": ("F1 against the number of training sentences", _f1_by_size),
    "growth": ("F1 of each language as others join", _growth),
    "cost": ("Cost against F1", _cost_against_f1),
    "routing": ("Routing: sentences of each language by adapter, %", _routing),
    "reliability": ("Reliability of the probabilities", _reliability),
}
_OF_PREDICTIONS = ("routing", "reliability")
