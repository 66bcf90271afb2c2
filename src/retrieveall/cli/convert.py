"""``retrieveall convert``: corpora from one format to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli import completion
from retrieveall.cli.guard import note

if TYPE_CHECKING:
    from retrieveall.types import Sentence

__all__ = ["convert"]


def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A corpus: a file, a folder, or hf://owner/name/config?split=train.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, or for BRAT a new folder.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="Format of OUT; by default by its ending.",
            autocompletion=completion.formats,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help="Format of IN; by default by its content.",
            autocompletion=completion.formats,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", help="Language of IN: zh and ja join tokens without spaces."),
    ] = None,
    scheme: Annotated[
        str, typer.Option(help="Scheme of tags: iob2, iob1 or bioes.", autocompletion=completion.schemes)
    ] = "iob2",
) -> None:
    """Convert a corpus from one format to another.

    The formats: jsonl, doccano, doccano-relations, prodigy, label-studio,
    spacy-jsonl, docbin, brat, datasets, gliner, csv, conll. Without --to, OUT ends in
    .jsonl, .conll, .tsv, .csv, .spacy or .parquet.
    """
    from retrieveall.data import read_corpus, write_corpus
    from retrieveall.data.readers import format_to_write
    from retrieveall.data.schemes import SCHEMES

    if scheme not in SCHEMES:
        raise typer.BadParameter(f"expected one of {', '.join(SCHEMES)}, got {scheme[:80]!r}", param_hint="--scheme")
    written = format_to_write(target, to or "auto")
    if Path(source.partition("?")[0]).resolve() == target.resolve():
        raise typer.BadParameter("the same file as IN; name another", param_hint="OUT")
    corpus = read_corpus(source, format=from_ or "auto", language=language)
    read = 0

    def counted() -> Iterator[Sentence]:
        nonlocal read
        for sentence in corpus:
            read += 1
            yield sentence

    count = write_corpus(counted(), target, format=written.name, scheme=scheme)
    for line in corpus.notes:
        note(f"note: {line}")
    if count < read:
        note(f"note: {read - count:,} sentences without words left out, for which {written.title} has no place")
    typer.echo(f"{count:,} sentences from {corpus.format.title} to {written.title}: {target}")
