"""Write the model card of a model folder: a text with the tables of a measurement in it.

    python -m recipes.measure.card results.json --text recipes/base/card.md --model FOLDER

``{running}``, ``{negatives}``, ``{panx}``, ``{ordinary}``, ``{everyday}``, ``{pairs}``, ``{documents}``, ``{speed}``
and ``{origin}`` in the text become what ``recipes.measure`` found.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from recipes.measure.tables import Results, render_part
from retrieveall.model_folder import CARD
from retrieveall.storage import Transaction

__all__ = ["render_card"]

_PARTS = ("running", "negatives", "panx", "ordinary", "everyday", "pairs", "documents", "speed", "origin")


def render_card(text: str, results: Results) -> str:
    """``text`` with the tables of ``results`` in their places."""
    for part in _PARTS:
        place = "{" + part + "}"
        if place in text:
            text = text.replace(place, render_part(results, part))
    return text


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what python -m recipes.measure wrote")
    parser.add_argument("--text", type=Path, required=True, help="Markdown with the places of tables")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    args = parser.parse_args()
    card = render_card(args.text.read_text(encoding="utf-8"), json.loads(args.results.read_text(encoding="utf-8")))
    with Transaction(args.model) as transaction:
        transaction.path(CARD).write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
