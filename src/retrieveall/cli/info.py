"""``retrieveall info``: describe a model folder without loading torch or weights."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieveall.cli import completion
from retrieveall.cli.guard import note
from retrieveall.cli.options import Verify
from retrieveall.cli.progress import is_terminal

if TYPE_CHECKING:
    from retrieveall.model_folder import ModelFolder

__all__ = ["info"]

_SCORES = (
    "Scores are those of each adapter's training, on its own validation sentences. Which corpus these are from is not "
    "recorded; the model's card may say so."
)
"""What adapter cards do not hold is not guessed: a figure without its set is read as that of a known test set."""
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a parameter in memory."""
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A shipped model, a folder or a hub id.", autocompletion=completion.models
        ),
    ] = "base",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verify: Verify = True,
) -> None:
    """Show a model's card in short, languages, labels, backbone, knowledge and adapter scores."""
    from retrieveall.model_folder import ModelFolder

    folder = ModelFolder.open(model, verify=verify)
    facts = describe(folder)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        _print(facts)
    if not facts["languages"]:
        note(f"note: {folder.next_step()}")


def describe(folder: ModelFolder) -> dict[str, Any]:
    """All information shown, as plain data.

    Raises:
        ModelFolderError: a card, a weights file or the knowledge is malformed.
    """
    from retrieveall.adapters import AdapterPool
    from retrieveall.storage import Manifest

    config = folder.config
    pool = AdapterPool(folder.path)
    parts: Counter[str] = Counter()
    for name, record in Manifest.load(folder.path).files.items():
        part, inside, _ = name.partition("/")
        parts[part if inside else "other files"] += record.size
    return {
        "name": config.name,
        "card": _short(folder.card),
        "path": str(folder.path),
        "bytes": sum(parts.values()),
        "bytes_of_parts": parts,
        "languages": list(folder.languages()),
        "labels": {label.name: label.definition for label in config.labels},
        "backbone": _backbone(folder),
        "template": config.prompt.template,
        "encoder": config.retrieval.encoder,
        "decoder": config.decoder.model_dump(mode="json", exclude={"tag_tokens"}),
        "knowledge": _knowledge(folder),
        "adapters": {language: _card(pool, language) for language in folder.languages()},
    }


def _short(card: str | None) -> str:
    """The first paragraph of a model card, without the metadata that the hub reads and without headings."""
    body = _FRONT_MATTER.sub("", card or "", count=1)
    paragraphs = (" ".join(each.split()) for each in re.split(r"\n\s*\n", body))
    return next((each for each in paragraphs if each and not each.startswith("#")), "")


def _backbone(folder: ModelFolder) -> dict[str, Any]:
    """Path, parameters counted from the headers of weights on this machine, and the bytes of so many in memory."""
    from retrieveall.storage import check_safetensors, safe_join

    settings = folder.config.backbone
    facts: dict[str, Any] = {"path": settings.path, "revision": settings.revision, "dtype": settings.dtype}
    facts["cpu_precision"] = settings.cpu_precision
    local = Path(settings.path) if Path(settings.path).is_absolute() else folder.path / settings.path
    if local.is_dir():
        root = folder.path if local.is_relative_to(folder.path) else local
        files = [safe_join(root, path.relative_to(root).as_posix()) for path in sorted(local.glob("*.safetensors"))]
        headers = [check_safetensors(path) for path in files]
        facts["parameters"] = sum(_numbers(name, shape) for header in headers for name, (_, shape) in header.items())
        facts["bytes_in_memory"] = facts["parameters"] * _WIDTHS[settings.dtype]
        facts["packed"] = any(name.endswith((".codes4", ".codes8")) for header in headers for name in header)
    return facts


def _numbers(name: str, shape: Sequence[int]) -> int:
    """How many parameters a stored tensor holds: two a byte in codes of four bits, none in scales."""
    return prod(shape) * (2 if name.endswith(".codes4") else 0 if name.endswith(".scales") else 1)


def _knowledge(folder: ModelFolder) -> dict[str, int]:
    """Number of training sentences per language."""
    base = folder.knowledge()
    return {language: len(base.sentences(language)) for language in base.languages}


def _card(pool: Any, language: str) -> dict[str, Any]:
    card = pool.card(language)
    return {
        "rank": card.rank,
        "alpha": card.alpha,
        "created": card.created,
        "data": dict(card.data),
        "scores": dict(card.scores),
    }


def _decoder(settings: dict[str, Any]) -> str:
    """The decoder kind first, then its other settings by name."""
    return ", ".join(str(value) if name == "kind" else f"{name} {value}" for name, value in settings.items())


def _memory(backbone: dict[str, Any]) -> str:
    """How much memory the weights take, and why that differs from the size on disk."""
    dtype = backbone["dtype"]
    if "bytes_in_memory" not in backbone:
        return f"the backbone is not on this machine; its parameters are loaded as {dtype}"
    least = []
    if backbone["packed"]:
        least.append("keeps the 4 bits of embeddings")
    if backbone["cpu_precision"] != "same":
        least.append("has layers in bfloat16 or 8 bits")
    less = f"; less on a CPU, which {' and '.join(least)}" if least else ""
    return f"{backbone['bytes_in_memory'] / 1e6:,.1f} MB for the backbone, all parameters as {dtype}{less}"


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from retrieveall.markup import visible

    console = Console() if is_terminal(sys.stdout) else Console(width=120, color_system=None)
    backbone = facts["backbone"]
    parameters = f", {backbone['parameters']:,} parameters" if "parameters" in backbone else ""
    sizes = {name: f"{size / 1e6:,.1f}" for name, size in sorted(facts["bytes_of_parts"].items())}
    parts = ", ".join(f"{name} {size}" for name, size in sizes.items() if size != "0.0")
    revision = f" at {backbone['revision']}" if backbone["revision"] else ""
    rows = {
        "model": f"{facts['name']} in {facts['path']}",
        "backbone": f"{backbone['path']}{revision}{parameters}",
        "size on disk": f"{facts['bytes'] / 1e6:,.1f} MB{f' ({parts})' if parts else ''}",
        "size in memory": _memory(backbone),
        "labels": ", ".join(
            name + (f" ({definition})" if definition else "") for name, definition in facts["labels"].items()
        ),
        "template": facts["template"],
        "decoder": _decoder(facts["decoder"]),
        "encoder": facts["encoder"],
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        grid.add_row(Text(name, style="dim"), Text(visible(value), overflow="fold"))
    console.print(grid)
    if facts["card"]:
        console.print()
        console.print(Text(visible(facts["card"])))
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("language", "rank", "knowledge", "scores"):
        table.add_column(name, justify="left" if name in ("language", "scores") else "right", overflow="fold")
    for language in sorted({*facts["adapters"], *facts["knowledge"]}):
        card = facts["adapters"].get(language)
        scores = ", ".join(f"{name} {value:.4g}" for name, value in card["scores"].items()) if card else ""
        table.add_row(
            language,
            str(card["rank"]) if card else "no adapter",
            f"{facts['knowledge'].get(language, 0):,}",
            Text(visible(scores)),
        )
    console.print(table)
    if any(card["scores"] for card in facts["adapters"].values()):
        console.print()
        console.print(Text(_SCORES, style="dim"))
