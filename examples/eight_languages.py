"""What `make run` shows: names in texts of eight languages, and what to type next.

Reads nothing but the package: the model ships with it.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from retrieveall import Prediction, RetrieveAll

TEXTS = [
    "Dear Ms Okafor,\nyour parcel from Lisbon is with DHL in Manchester.\nKind regards, Tom Bradley",
    "La ministra Yolanda Díaz se reunió ayer en Bruselas con representantes de Comisiones Obreras.",
    "Fermé ce lundi : la gare de Rennes, annonce la SNCF. Contact : Élodie Marchand.",
    "Юрий Гагарин родился в деревне Клушино под Смоленском.",
    "Guten Morgen! Siemens verlegt 200 Stellen von Erlangen nach Leipzig, sagte Betriebsrätin Sabine Krüger.",
    "李白出生于碎叶城，后来在长安见到了唐玄宗。",
    "徳川家康は江戸に幕府を開いた。",
    "세종대왕은 한양에서 훈민정음을 만들었다.",
]
STYLES = {"PER": "black on bright_cyan", "ORG": "black on bright_yellow", "LOC": "black on bright_green"}
NEXT = """Next:
  . .venv/bin/activate
  retrieveall extract "Your own text."
  retrieveall extract --input FILE --output names.html
"""


def show(console: Console, prediction: Prediction) -> None:
    """One text with its entities marked, then their offsets and probabilities, then the adapters and known names."""
    text = Text(prediction.text)
    for entity in prediction.entities:
        text.stylize(STYLES.get(entity.label, "reverse"), entity.start, entity.end)
    console.print(text)
    for entity in prediction.entities:
        line = f"  {entity.label} {entity.start:>3}–{entity.end:<3} {entity.score:.2f}  "
        console.print(Text.assemble(line, (entity.text, "bold")))
    route = prediction.route
    adapters = ", ".join(f"{name} {weight:.2f}" for name, weight in route.adapters.items()) or "none"
    known = ", ".join(f"{each.surface} → {each.label}" for each in prediction.knowledge.entities if not each.partial)
    console.print(Text(f"  adapters: {adapters} ({route.reason}); known names: {known or 'none'}\n", style="dim"))


def main() -> None:
    console = Console(highlight=False)
    started = time.perf_counter()
    model = RetrieveAll.from_pretrained("base")
    opened = time.perf_counter()
    predictions = model.predict(TEXTS)
    done = time.perf_counter()
    for prediction in predictions:
        show(console, prediction)
    names = sum(len(prediction.entities) for prediction in predictions)
    seconds = f"{opened - started:.1f} s to open the model, {done - opened:.1f} s to read"
    console.print(f"{len(TEXTS)} texts, {names} names; {seconds}.\n")
    console.print(NEXT)


if __name__ == "__main__":
    main()
