"""``retrieveall add-language``: add a language to a model folder without changing the others."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.guard import note
from retrieveall.cli.options import CopyTo, ModelFolderPath, Threads, use_threads
from retrieveall.cli.progress import is_terminal, stages
from retrieveall.cli.training_options import Config, RunFolder, Set, few, kind_of, read_training, sizes

if TYPE_CHECKING:
    from retrieveall.training.run import Scores
    from retrieveall.types import Sentence

__all__ = ["add_language"]

_APART = 0.03  # F1 between told and routed


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
    model: ModelFolderPath = "base",
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
    when everything is done. Run the command again to resume after an interruption;
    when it is complete, it says so and does nothing.
    """
    settings = read_training(config, change, kind_of(model))
    use_threads(threads)
    from retrieveall.cli.corpora import Formats, find_language, read
    from retrieveall.cli.folders import open_writable, run_folder
    from retrieveall.config import check_language
    from retrieveall.training import LanguageData, check_installed

    check_installed()
    files = find_language(data, check_language(language))
    if validation is not None:
        files["validation"] = validation
    formats = Formats()
    with stages(unit="sentences") as progress:
        train = read(files["train"], language, progress=progress, formats=formats)
        held_out = (
            read(files["validation"], language, progress=progress, formats=formats) if "validation" in files else []
        )
        formats.tell()
        folder = open_writable(model, copy_to, reuse=True).path

        from retrieveall.training.run import add_language as add
        from retrieveall.training.run import already_added

        if already_added(folder, language, LanguageData(train, held_out), settings):
            again = f"retrieveall remove-language {language} --model {shlex.quote(str(folder))}"
            typer.echo(
                f"{language} is complete in {folder}, added by a run with this data and these settings; to train it "
                f"again, remove it first with: {again}"
            )
            return
        with run_folder(run, folder, language) as place:
            scores = add(
                folder,
                language,
                LanguageData(train, held_out),
                settings,
                place,
                progress=progress,
                show_bar=is_terminal(sys.stderr),
            )
    typer.echo(f"added {language} to {Path(folder)}: {len(train):,} sentences{_described(scores)}")
    for warning in _warnings(language, train, scores):
        note(f"warning: {warning}")


def _described(scores: Scores) -> str:
    found = {"routed": scores.routed, "with the language given": scores.told}
    parts = [f"{100 * f1:.1f} {how}" for how, f1 in found.items() if f1 is not None]
    return f", validation F1 {', '.join(parts)}" if parts else ""


def _warnings(language: str, train: Sequence[Sentence], scores: Scores) -> Iterator[str]:
    from retrieveall.training.run import FEW_STEPS

    if few(train) or scores.steps < FEW_STEPS:
        yield (
            f"{sizes(train)} and {scores.steps:,} steps are hardly enough to learn from; give more sentences or "
            "--set epochs=N"
        )
    if scores.told is not None and scores.routed is not None and scores.told - scores.routed > _APART:
        yield (
            f"routing costs {100 * (scores.told - scores.routed):.1f} F1: texts of {language!r} are taken for another "
            f"language; name it where you know it (--language {language}), or give more sentences"
        )
