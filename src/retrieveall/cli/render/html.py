"""Predictions as one self-contained HTML page: marked texts, counts and a filter by label, light and dark.

Every text is escaped, and the page's policy forbids scripts and requests: the filter is made of check boxes and styles.
The check boxes come first, because styles can only look forward; the counts are known last and shown on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from retrieveall.cli.render.base import Renderer, blank_note
from retrieveall.cli.render.marks import counts_line, likeness, route_line
from retrieveall.markup import describe_span, hue_of, mark_html, safe_html
from retrieveall.types import Entity, KnownEntity, Neighbour, Prediction

__all__ = ["HtmlRenderer"]

_GOLDEN_ANGLE = 137.508  # degrees; keeps any number of hues far apart

_HEAD = """<!doctype html>
<html lang="und">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fff; --ink: #1b1d22; --faint: #667; --line: #e3e5ea;
  --light: 86%; --badge: 32%; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #15171c; --ink: #e6e8ee; --faint: #9aa0ae; --line: #2b2f38; --light: 27%; --badge: 78%; }}
}}
body {{ display: flex; flex-direction: column; margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 54rem;
  background: var(--paper); color: var(--ink); font: 1.05rem/1.9 system-ui, "Noto Sans", sans-serif; }}
nav {{ order: -1; position: sticky; top: 0; padding: .5rem 0; background: var(--paper);
  border-bottom: 1px solid var(--line); }}
nav label {{ cursor: pointer; }}
input {{ position: fixed; opacity: 0; pointer-events: none; }}
article {{ padding: .9rem 0; border-bottom: 1px solid var(--line); }}
p {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }}
mark {{ color: inherit; background: hsl(var(--hue) 75% var(--light)); border-radius: .3em; padding: .12em .3em;
  unicode-bidi: isolate; -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
mark b {{ margin-inline-start: .45em; font-size: .68em; letter-spacing: .03em;
  color: hsl(var(--hue) 70% var(--badge)); user-select: none; }}
small, details {{ color: var(--faint); font-size: .82rem; line-height: 1.6; }}
details ul {{ margin: .2rem 0 .6rem; padding-inline-start: 1.2rem; }}
details mark {{ padding: 0 .2em; }}
{filters}</style>
</head>
<body>
{boxes}<main>
"""
_BOX = '<input type="checkbox" id="label{number}" checked aria-label="Show {label}">\n'
_FILTER = """#label{number}:not(:checked) ~ main .label{number} {{ background: none; padding: 0; }}
#label{number}:not(:checked) ~ main .label{number} b {{ display: none; }}
#label{number}:not(:checked) ~ nav label[for=label{number}] {{ opacity: .4; }}
#label{number}:focus-visible ~ nav label[for=label{number}] {{ outline: 2px solid var(--ink); }}
"""
_TAIL = "</main>\n<nav>{legend}\n<small>{counts}</small></nav>\n</body>\n</html>\n"


class HtmlRenderer(Renderer):
    """A page in the style of displaCy; blank texts are skipped.

    Args:
        labels: for the filter and the colours, in order.
        explain: add a fold-out with the retrieved examples and known entities below each text.
    """

    def __init__(self, labels: Sequence[str] = (), *, explain: bool = False, title: str = "RetrieveAll") -> None:
        self._hues = {label: round(i * _GOLDEN_ANGLE + 210) % 360 for i, label in enumerate(labels)}
        self._numbers = {label: number for number, label in enumerate(self._hues)}
        self._texts = self._blank = 0
        self._found: Counter[str] = Counter()
        self._explain = explain
        self._title = title

    def head(self) -> str:
        numbers = [{"number": number, "label": safe_html(label)} for label, number in self._numbers.items()]
        filters, boxes = ("".join(piece.format(**each) for each in numbers) for piece in (_FILTER, _BOX))
        return _HEAD.format(title=safe_html(self._title), filters=filters, boxes=boxes)

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        self._texts += 1
        self._found.update(entity.label for entity in prediction.entities)
        if not prediction.text.strip():
            self._blank += 1
            return ""
        marked = self._marked(prediction.text, prediction.entities)
        knowledge = self._knowledge(prediction) if self._explain else ""
        return (
            f'<article>\n<p dir="auto">{marked}</p>\n<small>{safe_html(route_line(prediction))}</small>\n'
            f"{knowledge}</article>\n"
        )

    def tail(self) -> str:
        total = sum(self._found.values())
        counts = f"{self._texts:,} text{'s' * (self._texts != 1)}, {total:,} entit{'y' if total == 1 else 'ies'}"
        return _TAIL.format(legend=" ".join(map(self._legend, self._hues)), counts=counts)

    def state(self) -> dict[str, Any]:
        return {"texts": self._texts, "blank": self._blank, "found": dict(self._found)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._texts, self._blank, self._found = state["texts"], state.get("blank", 0), Counter(state["found"])

    def notes(self) -> list[str]:
        return blank_note(self._blank, "the page")

    def _legend(self, label: str) -> str:
        badge = f'<mark style="--hue:{self._hues[label]}">{safe_html(label)} <b>{self._found[label]:,}</b></mark>'
        return f'<label for="label{self._numbers[label]}">{badge}</label>'

    def _marked(self, text: str, entities: Sequence[Entity]) -> str:
        return mark_html(text, entities, self._mark)

    def _mark(self, text: str, entity: Entity) -> str:
        hue = self._hues.get(entity.label, hue_of(entity.label))
        number = self._numbers.get(entity.label)
        kind = "" if number is None else f' class="label{number}"'
        score = "" if entity.score is None else f" {entity.score:.2f}"
        badge = f"<b>{safe_html(entity.label)}{score}</b>"
        title = safe_html(describe_span(entity))
        return f'<mark{kind} style="--hue:{hue}" title="{title}">{safe_html(text)}{badge}</mark>'

    def _knowledge(self, prediction: Prediction) -> str:
        neighbours = "".join(map(self._neighbour, prediction.knowledge.neighbours))
        known = "".join(map(_known, prediction.knowledge.entities))
        if not neighbours and not known:
            return ""
        return (
            "<details><summary>what was retrieved</summary>\n"
            f"nearest examples<ul>{neighbours}</ul>\nknown entities<ul>{known}</ul>\n</details>\n"
        )

    def _neighbour(self, neighbour: Neighbour) -> str:
        sentence = neighbour.sentence
        marked = self._marked(sentence.text, sentence.entities)
        return (
            f"<li>{neighbour.similarity:.3f} {safe_html(neighbour.language)} "
            f'<span dir="auto" style="unicode-bidi:isolate">{marked}</span></li>'
        )


def _known(known: KnownEntity) -> str:
    return f"<li><bdi>{safe_html(known.surface)}</bdi> {likeness(known)}: {safe_html(counts_line(known))}</li>"
