"""Predictions as one self-contained HTML page: marked texts and a legend, light and dark.

Every text is escaped, and the page's policy forbids scripts and requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from zlib import crc32

from retrieveall.cli.render.marks import counts_line, likeness, route_line, stretches, visible
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
body {{ margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 54rem; background: var(--paper); color: var(--ink);
  font: 1.05rem/1.9 system-ui, "Noto Sans", sans-serif; }}
header {{ position: sticky; top: 0; padding: .5rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }}
article {{ padding: .9rem 0; border-bottom: 1px solid var(--line); }}
p {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }}
mark {{ color: inherit; background: hsl(var(--hue) 75% var(--light)); border-radius: .3em; padding: .12em .3em;
  unicode-bidi: isolate; -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
mark b {{ margin-inline-start: .45em; font-size: .68em; letter-spacing: .03em;
  color: hsl(var(--hue) 70% var(--badge)); user-select: none; }}
small, details {{ color: var(--faint); font-size: .82rem; line-height: 1.6; }}
details ul {{ margin: .2rem 0 .6rem; padding-inline-start: 1.2rem; }}
details mark {{ padding: 0 .2em; }}
</style>
</head>
<body>
<header>{legend}</header>
<main>
"""
_TAIL = "</main>\n</body>\n</html>\n"


class HtmlRenderer:
    """A page in the style of displaCy; blank texts are skipped.

    Args:
        labels: for the legend and the colours, in order.
        explain: add a fold-out with the retrieved examples and known entities below each text.
    """

    def __init__(self, labels: Sequence[str] = (), *, explain: bool = False, title: str = "RetrieveAll") -> None:
        self._hues = {label: round(i * _GOLDEN_ANGLE + 210) % 360 for i, label in enumerate(labels)}
        self._explain = explain
        self._title = title

    def head(self) -> str:
        legend = " ".join(self._mark("", Entity(0, 0, label), title="") for label in self._hues)
        return _HEAD.format(title=_safe(self._title), legend=legend)

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        if not prediction.text.strip():
            return ""
        marked = self._marked(prediction.text, prediction.entities)
        knowledge = self._knowledge(prediction) if self._explain else ""
        return (
            f'<article>\n<p dir="auto">{marked}</p>\n<small>{_safe(route_line(prediction.route))}</small>\n'
            f"{knowledge}</article>\n"
        )

    def tail(self) -> str:
        return _TAIL

    def _marked(self, text: str, entities: Sequence[Entity]) -> str:
        return "".join(
            self._mark(stretch, entity, _tooltip(entity)) if entity else _safe(stretch)
            for stretch, entity in stretches(text, entities)
        )

    def _mark(self, text: str, entity: Entity, title: str) -> str:
        hue = self._hues.get(entity.label, crc32(entity.label.encode("utf-8", "replace")) % 360)
        tooltip = f' title="{_safe(title)}"' if title else ""
        return f'<mark style="--hue:{hue}"{tooltip}>{_safe(text)}<b>{_safe(entity.label)}</b></mark>'

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
            f"<li>{neighbour.similarity:.3f} {_safe(neighbour.language)} "
            f'<span dir="auto" style="unicode-bidi:isolate">{marked}</span></li>'
        )


def _safe(text: str) -> str:
    return escape(visible(text), quote=True)


def _tooltip(entity: Entity) -> str:
    score = "" if entity.score is None else f", probability {entity.score:.3f}"
    return f"{entity.label}, characters {entity.start} to {entity.end}{score}"


def _known(known: KnownEntity) -> str:
    return f"<li><bdi>{_safe(known.surface)}</bdi> {likeness(known)}: {_safe(counts_line(known))}</li>"
