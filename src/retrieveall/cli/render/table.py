"""Predictions for a terminal: the marked text, a table of its entities, and the route.

Uses rich; markup inside a text is never interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrieveall.cli.render.base import Renderer
from retrieveall.cli.render.marks import counts_line, likeness, route_line
from retrieveall.markup import stretches, visible
from retrieveall.types import Entity, KnownEntity, Neighbour, Prediction

__all__ = ["TableRenderer"]

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")
_NEIGHBOURS = 5
"""Number of examples that ``--explain`` shows; JSONL has all."""


class TableRenderer(Renderer):
    """One block per text.

    Args:
        console: used for its width and colours; nothing is printed on it.
        labels: for the colours, in order.
        explain: show the retrieved examples and known entities.
    """

    def __init__(self, console: Console, labels: Sequence[str] = (), *, explain: bool = False) -> None:
        self._console = console
        self._colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
        self._explain = explain

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        with self._console.capture() as capture:
            for part in self._parts(prediction):
                self._console.print(part, highlight=False, markup=False, emoji=False)
        return "".join(f"{line.rstrip(' ')}\n" for line in capture.get().removesuffix("\n").split("\n"))

    def _parts(self, prediction: Prediction) -> Iterator[RenderableType]:
        yield self._marked(prediction.text, prediction.entities)
        if prediction.entities:
            yield _indented(self._entities(prediction.entities))
        else:
            yield _indented(Text("no entities", style="dim"))
        yield _indented(Text(visible(route_line(prediction)), style="dim"))
        if self._explain and prediction.knowledge.neighbours:
            yield _indented(self._neighbours(prediction.knowledge.neighbours))
        if self._explain and prediction.knowledge.entities:
            yield _indented(self._known(prediction.knowledge.entities))
        yield Text()

    def _style(self, label: str) -> str:
        return self._colours.get(label, "bold")

    def _marked(self, text: str, entities: Sequence[Entity]) -> Text:
        marked = Text()
        for stretch, entity in stretches(text, entities):
            marked.append(visible(stretch), style=f"bold {self._style(entity.label)}" if entity else None)
        return marked

    def _entities(self, entities: Sequence[Entity]) -> Table:
        table = _table("label", ">start", ">end", ">score", "text")
        for entity in entities:
            score = "" if entity.score is None else f"{entity.score:.3f}"
            table.add_row(
                Text(visible(entity.label), style=self._style(entity.label)),
                str(entity.start),
                str(entity.end),
                score,
                Text(visible(entity.text)),
            )
        return table

    def _neighbours(self, neighbours: Sequence[Neighbour]) -> Table:
        more = len(neighbours) - _NEIGHBOURS
        title = "nearest examples" + (f" ({_NEIGHBOURS} of {len(neighbours)})" if more > 0 else "")
        table = _table(">similarity", "language", title)
        for neighbour in neighbours[:_NEIGHBOURS]:
            sentence = neighbour.sentence
            table.add_row(
                f"{neighbour.similarity:.3f}",
                neighbour.language,
                self._marked(sentence.text, sentence.entities),
            )
        return table

    def _known(self, entities: Sequence[KnownEntity]) -> Table:
        table = _table(">start", ">end", ">similarity", "known entity", "seen as")
        for known in entities:
            table.add_row(
                str(known.start),
                str(known.end),
                likeness(known),
                Text(visible(known.surface)),
                Text(visible(counts_line(known))),
            )
        return table


def _table(*columns: str) -> Table:
    """A table without borders; columns whose name begins with ``>`` are right-aligned."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return table


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)
