"""``retrieveall remove-language``: remove a language from a model folder without changing the others."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieveall.cli import completion
from retrieveall.cli.options import CopyTo, ModelFolderPath

__all__ = ["remove_language"]


def remove_language(
    language: Annotated[
        str,
        typer.Argument(metavar="LANG", help="The language to remove, such as de.", autocompletion=completion.languages),
    ],
    model: ModelFolderPath = "base",
    copy_to: CopyTo = None,
) -> None:
    """Remove a language's adapter and knowledge from a model folder.

    Files of other languages are not touched.
    """
    from retrieveall.cli.folders import open_writable

    folder = open_writable(model, copy_to, has=language)
    folder.remove_language(language)
    left = ", ".join(folder.languages()) or "none"
    typer.echo(f"removed {language} from {folder.path}; languages left: {left}")
