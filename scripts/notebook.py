"""Writes the notebook of the tutorial, docs/your_own_labels.md: the same text, commands and Python, as cells.

python scripts/notebook.py --write    rewrites it
python scripts/notebook.py --check    exits with 1 if it is stale
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "your_own_labels.md"
TARGET = ROOT / "examples" / "your_own_labels" / "your_own_labels.ipynb"

_CODE = re.compile(r"^```(console|python)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[#)])")
_PLACE = """\
import os
from pathlib import Path

if Path("en").is_dir():  # opened in its own folder; the commands below are typed at the root of the repository
    os.chdir("../..")"""
_SHOWN = 'model.predict("The carbonara was better than the lasagne from my Moccamaster KBG.")[0]'


def notebook() -> str:
    """The notebook as JSON, without outputs."""
    cells = list(_cells(SOURCE.read_text("utf-8")))
    plain = {
        "cells": [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(plain, ensure_ascii=False, indent=1) + "\n"


def _cells(text: str) -> Iterator[dict[str, Any]]:
    yield from _markdown("Start Jupyter with the environment of this library active.\n")
    yield _code(_PLACE)
    parts = _CODE.split(text)
    yield from _markdown(parts[0])
    python = [number for number in range(1, len(parts), 3) if parts[number] == "python"]
    for number in range(1, len(parts), 3):
        kind, body, after = parts[number : number + 3]
        lines = body.rstrip().splitlines()
        yield _code("\n".join(f"!{line}" for line in lines) if kind == "console" else "\n".join(lines))
        if number == python[-1]:
            yield from _markdown("A notebook shows a prediction with its entities marked:\n")
            yield _code(_SHOWN)
        yield from _markdown(after)


def _markdown(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        linked = _LINK.sub(lambda match: _from_the_notebook(match[1]), text.strip())
        yield {"cell_type": "markdown", "metadata": {}, "source": linked.splitlines(keepends=True)}


def _from_the_notebook(link: str) -> str:
    """A link of the document as a link of the notebook."""
    return posixpath.relpath(posixpath.join("docs", link), TARGET.parent.relative_to(ROOT).as_posix())


def _code(text: str) -> dict[str, Any]:
    lines = text.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true")
    group.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        TARGET.write_text(notebook(), encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text("utf-8") != notebook():
        sys.exit(f"stale: {TARGET.relative_to(ROOT)}; run: make docs")


if __name__ == "__main__":
    main()
