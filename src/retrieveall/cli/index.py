"""``retrieveall index``: build a knowledge base from training sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.options import Languages, Threads, split_list, use_threads
from retrieveall.cli.progress import stages

if TYPE_CHECKING:
    from retrieveall.knowledge import KnowledgeBase

__all__ = ["index"]


def index(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with {language}/train.tsv files.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", file_okay=False, help="The folder to write; an existing index is replaced."
        ),
    ],
    languages: Languages = None,
    encoder: Annotated[
        str, typer.Option(help="'ngram' or a sentence-transformers model (extra 'encoders').")
    ] = "ngram",
    threads: Threads = None,
) -> None:
    """Index the training sentences of a corpus as a knowledge base.

    The folder changes only when everything is done.
    """
    wanted = split_list(languages, "--languages")
    use_threads(threads)
    from retrieveall.cli.corpora import find_split, read_split
    from retrieveall.knowledge import KnowledgeBase

    _check_target(out)
    files = find_split(data, "train", wanted)
    with stages(unit="sentences") as progress:
        sentences = read_split(files, progress=progress)
        base = KnowledgeBase.build(sentences, encoder, progress)
    _write(base, out)
    total = sum(map(len, sentences.values()))
    typer.echo(f"indexed {total:,} sentences of {len(files)} languages in {out}: {', '.join(sorted(files))}")


def _check_target(out: Path) -> None:
    """Reject a folder that holds something else, before any work."""
    from retrieveall.errors import InputError

    ours = ("encoder", ".staging")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_dir() for name in ours):
        raise InputError(f"expected a new or empty folder, or an index to replace, {out} is neither; choose another")


def _write(base: KnowledgeBase, out: Path) -> None:
    from retrieveall.storage import Transaction

    with Transaction(out) as transaction:
        for child in out.iterdir():
            if child.is_dir() and not child.name.startswith("."):
                transaction.delete(child.name)
        base.write_files(transaction.path("encoder").parent)
