"""``retrieveall adopt``: add an adapter trained elsewhere with PEFT to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieveall.cli.guard import note
from retrieveall.cli.options import CopyTo, ModelFolderPath, Threads, use_threads
from retrieveall.cli.progress import stages

__all__ = ["adopt"]


def adopt(
    language: Annotated[str, typer.Argument(metavar="LANG", help="Identifier of the language, such as nl.")],
    adapter: Annotated[
        Path,
        typer.Argument(
            metavar="ADAPTER",
            help="PEFT folder with adapter_config.json and adapter_model.safetensors; plain LoRA only.",
        ),
    ],
    model: ModelFolderPath = "base",
    copy_to: CopyTo = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="FILE|FOLDER",
            help="Tagged sentences for the language's knowledge; without them nothing routes to it but --language.",
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Add a LoRA adapter of the same backbone to the model.

    Only safetensors are read, and every tensor must fit the backbone. Files of
    other languages are not touched.
    """
    use_threads(threads)
    from retrieveall.cli.corpora import find_language, read
    from retrieveall.cli.folders import open_writable
    from retrieveall.config import check_language
    from retrieveall.errors import ModelFolderError

    check_language(language)
    if not adapter.is_dir():
        raise ModelFolderError(f"expected a folder with adapter_config.json, {adapter} is not a folder; check the path")
    with stages(unit="sentences") as progress:
        sentences = None
        if data is not None:
            sentences = read(find_language(data, language)["train"], language, progress=progress)
        folder = open_writable(model, copy_to, reuse=True)
        from retrieveall.training.adopt import adopt as take_in

        found = take_in(folder.path, language, adapter, sentences)
    backbone = folder.config.backbone.path
    if found.base is not None and "/" in backbone and Path(found.base).name != Path(backbone).name:
        note(f"note: the adapter names the backbone {found.base}, the model has {backbone}; their shapes match")
    known = f", {found.sentences:,} sentences of knowledge" if found.sentences else ", no knowledge"
    typer.echo(
        f"adopted {language} into {folder.path}: rank {found.rank}, {found.modules} layers, "
        f"{found.parameters:,} parameters{known}"
    )
