"""Results as Markdown: one measurement in full, or the main figures of several side by side.

python -m recipes.measure.tables A.json B.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from recipes.measure.pairs import JOINS
from retrieveall.evaluation.report import markdown_table, per_cent

__all__ = ["compare", "render", "render_part"]

Results: TypeAlias = Mapping[str, Any]


def render(results: Results) -> str:
    """One measurement: a heading and tables for each part; ratios in per cent."""
    parts = [f"# {results['model']}", _origin(results)]
    for name, write in _PARTS.items():
        if name in results:
            parts += [f"## {name.replace('_', ' ')}", write(results[name])]
    return "\n\n".join(parts)


def _origin(results: Results) -> str:
    origin = results["provenance"]
    commit = (origin["commit"] or "no commit")[:12] + (", with local changes" if origin["modified"] else "")
    model = (origin["manifest_sha256"] or "unknown")[:12]
    return f"commit {commit}; model {model}; {origin['date']}; {origin['machine'].get('processor', '')}"


def _running(part: Results) -> str:
    keys = ("f1", "precision", "recall", "routed_right", "unknown_routes")

    def row(name: str, score: Results, sentences: str = "") -> list[str]:
        return [name, sentences, *(per_cent(score.get(key)) for key in keys)]

    rows = [row(name, score, f"{score['sentences']:,}") for name, score in part["sets"].items()]
    rows += [row(f"**{language}**, mean", score) for language, score in part["languages"].items()]
    rows.append(row("**mean of languages**", part["mean"]))
    table = markdown_table(["set", "sentences", "F1", "precision", "recall", "routed right", "unknown route"], rows)
    error = f"Calibration error of {part['scored_entities']:,} entities: {per_cent(part['calibration_error'])}."
    return f"{table}\n\n{error}"


def _negatives(part: Results) -> str:
    named = [*part["sets"].items(), ("**all**", part)]
    rows = [[name, str(each["entity_free"]), str(each["spurious"]), per_cent(each["rate"])] for name, each in named]
    return markdown_table(["set", "sentences without an entity", "with a predicted one", "share"], rows)


def _panx(part: Results) -> str:
    keys = ("f1", "unseen_f1", "calibration_error", "routed_right")
    rows = [
        [language, str(each["sentences"]), *(per_cent(each[key]) for key in keys)]
        for language, each in part["languages"].items()
    ]
    mean = part["mean"] | {"routed_right": part["mean"].get("routing_accuracy")}
    rows.append(["**mean**", "", *(per_cent(mean.get(key)) for key in keys)])
    return markdown_table([part["split"], "sentences", "F1", "unseen", "calibration error", "routed right"], rows)


def _ordinary(part: Results) -> str:
    named = [*part["kinds"].items(), ("**all**", part)]
    rows = [
        [kind, str(each["texts"]), str(each["texts_right"]), str(each["gold"]), str(each["predicted"])]
        + [per_cent(each[key] if each["gold"] or each["predicted"] else None) for key in ("f1", "precision", "recall")]
        for kind, each in named
    ]
    table = markdown_table(["kind", "texts", "right", "gold", "predicted", "F1", "precision", "recall"], rows)
    of_kind = f"Texts of kind “no name” with an entity: {per_cent(part['no_name_rate'])}; of all "
    rates = (of_kind if part["no_name_rate"] is not None else "Of the ") + (
        f"{part['unmarked_texts']} texts without a mark: {per_cent(part['unmarked_rate'])}"
        f"{' have an entity' if part['no_name_rate'] is None else ''}."
    )
    misses = [f"- {miss['text']!r}: marked {_listed(miss['gold'])}; found {_listed(miss['predicted'])}"
              for miss in part["misses"]]  # fmt: skip
    return "\n\n".join([table, rates, "\n".join(misses)])


def _listed(entities: Sequence[Results]) -> str:
    return ", ".join(f"{each['label']} {each['text']!r}" for each in entities) or "nothing"


def _not_in_the_pool(part: Results) -> str:
    rows = [
        [each["text"], each["reason"], " ".join(each["route"]), _listed(each["predicted"])]
        for each in part["predictions"]
    ]
    return markdown_table(["text", "reason", "adapters", "found"], rows)


def _pairs(part: Results) -> str:
    named = [*part["languages"].items(), ("**mean**", part["mean"])]
    rows = [[name, str(each.get("pairs", "")), *(per_cent(each.get(join)) for join in JOINS)] for name, each in named]
    return markdown_table(["an entity crosses the border", "pairs", *JOINS], rows)


def _speed(part: Results) -> str:
    figures = {
        f"texts of {part['words_a_text']} words a processor second": part["texts_per_processor_second"],
        "texts a second": part["texts_per_second"],
        "seconds to open the model": part["open_seconds"],
        "peak memory after opening, MB": part["peak_memory_mb_opened"],
        "peak memory, MB": part["peak_memory_mb"],
        "cold `retrieveall extract`, seconds": part.get("cold_start_seconds", "not measured"),
    }
    return markdown_table(["speed, one thread", ""], [[name, str(figure)] for name, figure in figures.items()])


_PARTS: dict[str, Callable[[Results], str]] = {
    "running": _running,
    "negatives": _negatives,
    "panx": _panx,
    "ordinary": _ordinary,
    "everyday": _ordinary,
    "not_in_the_pool": _not_in_the_pool,
    "pairs": _pairs,
    "documents": _running,
    "speed": _speed,
}


def render_part(results: Results, part: str) -> str:
    """One part as tables, without the texts that were missed; ``"origin"``: what was measured, when and where."""
    if part == "origin":
        return _origin(results)
    found = results[part]
    return _PARTS[part]({**found, "misses": []} if "misses" in found else found).strip()


def compare(measured: Sequence[Results]) -> str:
    """The main figures of several measurements, a column each; a dash where a part was not measured."""
    rows = [
        [name, *(_figure(results, path) for results in measured)]
        for name, path in _figures(measured)
        if any(_at(results, path) is not None for results in measured)
    ]
    return markdown_table(["", *(str(results["model"]) for results in measured)], rows)


def _figures(measured: Sequence[Results]) -> list[tuple[str, tuple[str, ...]]]:
    sets = sorted({name for each in measured for name in each.get("running", {}).get("sets", ())})
    languages = sorted({name for each in measured for name in each.get("panx", {}).get("languages", ())})
    return [
        *((f"running, {name}, F1", ("running", "sets", name, "f1")) for name in sets),
        ("running, mean of languages, F1", ("running", "mean", "f1")),
        ("running, routed right", ("running", "mean", "routed_right")),
        ("running, calibration error", ("running", "calibration_error")),
        ("entity-free sentences with an entity", ("negatives", "rate")),
        *((f"PAN-X, {name}, F1", ("panx", "languages", name, "f1")) for name in languages),
        ("PAN-X, mean, F1", ("panx", "mean", "f1")),
        ("PAN-X, mean, unseen F1", ("panx", "mean", "unseen_f1")),
        ("ordinary, F1", ("ordinary", "f1")),
        ("ordinary, “no name” with an entity", ("ordinary", "no_name_rate")),
        ("everyday, F1", ("everyday", "f1")),
        ("everyday, texts without a name with an entity", ("everyday", "unmarked_rate")),
        *((f"pairs crossed, {join}", ("pairs", "mean", join)) for join in JOINS),
        ("texts a processor second", ("speed", "texts_per_processor_second")),
        ("peak memory, MB", ("speed", "peak_memory_mb")),
        ("cold start, seconds", ("speed", "cold_start_seconds")),
    ]


def _at(results: Any, path: Sequence[str]) -> Any:
    for key in path:
        results = results.get(key) if isinstance(results, Mapping) else None
    return results


def _figure(results: Results, path: Sequence[str]) -> str:
    value = _at(results, path)
    return str(value) if path[0] == "speed" and value is not None else per_cent(value)


if __name__ == "__main__":
    print(compare([json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]))
