"""Options shared by several commands, and their effects before any library is loaded."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from retrieveall.cli import completion
from retrieveall.threads import use_threads

__all__ = [
    "AllowNoAdapters",
    "BatchSize",
    "CopyTo",
    "Device",
    "InputFormat",
    "Languages",
    "Model",
    "ModelFolderPath",
    "Server",
    "Threads",
    "Verify",
    "finite",
    "probability",
    "split_list",
    "use_threads",
]


class InputFormat(StrEnum):
    """Format of a file or stream of texts; ``auto`` decides by suffix, then by the first line."""

    auto = "auto"
    text = "text"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a shipped model, a model folder, or a hub id such as owner/model.",
        autocompletion=completion.models,
    ),
]
ModelFolderPath: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="The model folder to change; with --copy-to also a shipped model or hub id.",
        autocompletion=completion.models,
    ),
]
CopyTo: TypeAlias = Annotated[
    Path | None,
    typer.Option("--copy-to", metavar="FOLDER", help="Copy the model to this new folder and change the copy."),
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads; torch's default if not set. On a busy machine fewer can be faster: two OpenMP threads "
        "that wait for each other can be much slower than one.",
    ),
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", help="torch device, such as cpu, cuda or cuda:1; default: the GPU if there is one."),
]
Server: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Run the model on this server, such as http://localhost:8000 (vLLM, SGLang); an API key is read from "
        "the environment variable RETRIEVEALL_API_KEY.",
    ),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Texts read and predicted together; 1 prints every result immediately.")
]
Verify: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Check the checksums of the model's files, or only their sizes.",
    ),
]
AllowNoAdapters: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-no-adapters",
        help="Also open a model without a single adapter, such as one whose training was stopped; its backbone runs "
        "alone.",
    ),
]
Languages: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--languages",
        help="Only these languages, comma-separated: de,en.",
        show_default="all",
        autocompletion=completion.languages,
    ),
]


def split_list(value: str | None, option: str) -> list[str] | None:
    """The items of ``a,b,c``; None stays None.

    Raises:
        typer.BadParameter: the list is empty.
    """
    if value is None:
        return None
    items = [item.strip() for item in value.split(",") if item.strip()]
    if not items:
        raise typer.BadParameter("expected names separated by commas, got none", param_hint=option)
    return list(dict.fromkeys(items))


def finite(value: float | None) -> float | None:
    """A number that is neither NaN nor infinite; for the callback of an option."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


def probability(value: float | None) -> float | None:
    """A number from 0 to 1; for the callback of an option, since typer's own range takes NaN for too large."""
    from retrieveall.arguments import check_threshold
    from retrieveall.errors import InputError

    try:
        check_threshold(value)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    return value
