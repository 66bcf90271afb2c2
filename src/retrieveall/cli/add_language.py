"""``retrieveall add-language``: add a language to a model folder without changing the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from retrieveall.cli.options import CopyTo, ModelFolderPath, Threads, use_threads
from retrieveall.cli.progress import is_terminal, stages
from retrieveall.cli.training_options import Config, RunFolder, Set, kind_of, read_training

__all__ = ["add_language"]


def add_language(
    language: Annotated[str, typer.Argument(metavar="LANG", help="Identifier of the language, such as nl.")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="FILE|FOLDER",
            help="Tagged sentences: a TSV or JSONL file, a folder with train and validation, or hf://owner/name/config.",
        ),
    ],
    model: ModelFolderPath = "mini",
    copy_to: CopyTo = None,
    validation: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Tagged sentences to measure F1 on; by default those of the folder."),
    ] = None,
    config: Config = None,
    change: Set = None,
    run: RunFolder = None,
    threads: Threads = None,
) -> None:
    """Train the adapter of a new language and add its knowledge.

    Files of other languages are not touched, and the model folder changes only
    when everything is done. Run the command again to resume after an interruption.
    """
    settings = read_training(config, change, kind_of(model))
    use_threads(threads)
    from retrieveall.cli.corpora import find_language, read
    from retrieveall.cli.folders import open_writable, run_folder
    from retrieveall.config import check_language
    from retrieveall.training import LanguageData, check_installed

    check_installed()
    files = find_language(data, check_language(language))
    if validation is not None:
        files["validation"] = validation
    with stages(unit="sentences") as progress:
        train = read(files["train"], language, progress=progress)
        held_out = read(files["validation"], language, progress=progress) if "validation" in files else []
        folder = open_writable(model, copy_to, reuse=True).path

        from retrieveall.training.run import add_language as add

        with run_folder(run, folder, language) as place:
            f1 = add(
                folder,
                language,
                LanguageData(train, held_out),
                settings,
                place,
                progress=progress,
                show_bar=is_terminal(sys.stderr),
            )
    score = f", validation F1 {100 * f1:.1f}" if held_out else ""
    typer.echo(f"added {language} to {Path(folder)}: {len(train):,} sentences{score}")
