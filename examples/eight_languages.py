"""What `make run` shows: entities of real sentences in eight languages, and what led to them.

Reads nothing but the package: the model ships with it.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrieveall import KnownEntity, Prediction, RetrieveAll

SENTENCES = [
    "Ada Lovelace was born in London and worked with Charles Babbage.",
    "Gabriel García Márquez nació en Aracataca, en el norte de Colombia.",
    "Marie Curie a enseigné à la Sorbonne, à Paris.",
    "Юрий Гагарин родился в деревне Клушино под Смоленском.",
    "Angela Merkel wurde in Hamburg geboren und wuchs in Templin auf.",
    "李白（701年－762年），唐朝诗人。",
    "織田信長は尾張国の戦国大名である。",
    "세종대왕은 서울에서 태어났다.",
]


def show(console: Console, prediction: Prediction) -> None:
    """One sentence: the entities with their offsets and probabilities, then the route and the knowledge."""
    console.print(Text(prediction.text, style="bold"))
    table = Table(box=None, padding=(0, 2), show_header=False)
    for entity in prediction.entities:
        where = f"{entity.start}–{entity.end}"
        table.add_row(entity.label, Text(entity.text, style="green"), where, f"{entity.score:.2f}")
    console.print(table if prediction.entities else "  (no entities)")
    route = prediction.route
    adapters = ", ".join(f"{name} {weight:.2f}" for name, weight in route.adapters.items()) or "none"
    console.print(Text(f"  adapters   {adapters} ({route.reason})", style="dim"))
    known = ", ".join(map(describe, prediction.knowledge.entities)) or "none"
    console.print(Text(f"  known      {known}", style="dim"))
    for neighbour in prediction.knowledge.neighbours[:1]:
        example = f"{neighbour.sentence.text} [{neighbour.language}, {neighbour.similarity:.2f}]"
        console.print(Text(f"  retrieved  {example}\n", style="dim"))


def describe(known: KnownEntity) -> str:
    """A known entity with its label; ``in`` where the text has only a part of it."""
    return f"{'in ' if known.partial else ''}{known.surface} → {known.label}"


def main() -> None:
    console = Console(highlight=False)
    model = RetrieveAll.from_pretrained("base")
    for prediction in model.predict(SENTENCES):
        show(console, prediction)


if __name__ == "__main__":
    main()
