"""Puts tables and figures together: ``report.md`` with ``figures/*.svg``, and ``report.html`` in one file."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from retrieveall.benchmark.report import summary, tables
from retrieveall.benchmark.report.figures import draw_all
from retrieveall.benchmark.report.results import Results
from retrieveall.errors import DataError
from retrieveall.storage import write_atomic

__all__ = ["write_report"]

_WITHOUT = (
    "These results were published without their predictions, which are large: significance, errors, routing and "
    "reliability are not shown."
)
MARKDOWN, HTML, FIGURES = "report.md", "report.html", "figures"


def write_report(out: Path) -> Path:
    """Write the report of the results in ``out`` and return the path of the HTML file.

    Raises:
        DataError: no results.
        MissingExtraError: matplotlib is not installed.
    """
    results = Results.load(out)
    if not results.runs:
        reasons = [reason for _, reason in results.missing]
        raise DataError(
            f"{out}: expected at least one finished cell, found none: {reasons[0] if reasons else 'no cells'}"
        )
    figures = draw_all(results)
    (out / FIGURES).mkdir(exist_ok=True)
    for name, (_, svg) in figures.items():
        write_atomic(out / FIGURES / f"{name}.svg", svg.encode())
    text = render_markdown(results, figures)
    write_atomic(out / MARKDOWN, text.encode())
    write_atomic(out / HTML, render_html(results.config.name, text, figures).encode())
    return out / HTML


def render_markdown(results: Results, figures: Mapping[str, tuple[str, str]]) -> str:
    """The whole report; figures as links to files beside it."""
    config, first = results.config, results.reference
    seeds = sorted({run.seed for run in results.runs})
    sizes = sorted({results.main_size(language) for language in results.languages})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    parts = [
        f"# Benchmark {config.name}",
        f"Corpus `{Path(config.data.path).name}`, {size} training sentences a language, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}. "
        "F1 is entity-level micro F1 in per cent, as seqeval counts it in its default mode: mean ± standard deviation "
        "over seeds, then the mean over languages.",
        summary.claims(results),
        "## F1 by language",
        tables.f1_by_language(results),
        f"Difference, interval and p: paired bootstrap over test sentences against *{first}* (2,000 resamples, "
        "two-sided)."
        if results.has_predictions
        else _WITHOUT,
        _figure(figures, "f1"),
        "## More scores",
        tables.more_scores(results),
        "Strict F1 leaves out gold entities with ill-formed tags, as seqeval's strict mode; macro F1 is the mean over "
        "labels.",
        tables.label_scores(results),
    ]
    if results.config.sizes:
        parts += ["## Training size", tables.sizes(results), _figure(figures, "sizes")]
    if set(config.sets) != {"all"}:
        parts += [
            "## Languages together",
            tables.growth(results),
            '"1 together" is a language alone: a lower figure to its right is interference, a higher one transfer.',
            _figure(figures, "growth"),
        ]
    if results.has_predictions:
        parts += ["## Errors", "Of 100 gold entities.", tables.errors(results), tables.seen(results)]
        compared = " and ".join(tables.compared_in_detail(results))
        parts += [f"By language, {compared}:", tables.errors_by_language(results)]
    parts += [
        "## Cost",
        "Training and prediction of all languages with one seed. Methods that differ at inference only share a trained "
        "model, and each of them shows its cost.",
        tables.costs(results),
        _figure(figures, "cost"),
    ]
    if results.has_predictions:
        parts += [
            "## Routing and probabilities",
            tables.routing(results),
            _figure(figures, "routing"),
            _figure(figures, "reliability"),
        ]
    absent = tables.missing(results)
    if absent:
        parts += ["## Not run", absent]
    parts += ["## Where this comes from", tables.provenance(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figure(figures: Mapping[str, tuple[str, str]], name: str) -> str:
    return f"![{figures[name][0]}]({FIGURES}/{name}.svg)" if name in figures else ""


_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --page: #fff; --soft: #555; --line: #ddd; --code: #f3f3f3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --page: #16181b; --soft: #a5a5a5; --line: #3a3d42; --code: #26292e; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: var(--text);
       background: var(--page); overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.table { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom: 2px solid var(--soft); text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); min-width: 15rem;
       white-space: normal; }
figure { margin: 1.5rem 0; overflow-x: auto; } figcaption { color: var(--soft); }
figure svg { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
code { background: var(--code); padding: .1rem .3rem; }
@media (max-width: 40rem) {
  figure svg { max-width: none; } th, td { padding: .25rem .4rem; }
  th:first-child, td:first-child { min-width: 7rem; } }
"""


def render_html(name: str, markdown: str, figures: Mapping[str, tuple[str, str]]) -> str:
    """The Markdown as one page that loads nothing: figures inline, no script."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    for key, (title, svg) in figures.items():
        caption = html.escape(title)
        image = f'<p><img src="{FIGURES}/{key}.svg" alt="{caption}" /></p>'
        body = body.replace(image, f"<figure>{_own_ids(svg, key)}<figcaption>{caption}</figcaption></figure>")
    title = html.escape(f"Benchmark {name}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}</body></html>\n"
    )


def _own_ids(svg: str, name: str) -> str:
    """The figure with ids of its own: all figures stand in one document."""
    return svg.replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
