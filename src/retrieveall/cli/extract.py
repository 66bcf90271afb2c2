"""``retrieveall extract``: predict entities and print them as a table, JSONL, CoNLL or HTML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.guard import note
from retrieveall.cli.options import BatchSize, InputFormat, Model, Server, Threads, Verify, split_list, use_threads
from retrieveall.cli.progress import Advance, bar, is_terminal
from retrieveall.cli.render import Format

if TYPE_CHECKING:
    from retrieveall.cli.inputs import Document
    from retrieveall.cli.render import Renderer
    from retrieveall.types import Prediction

__all__ = ["extract"]

_WIDTH = 120  # columns of a table written to a file
_BY_SUFFIX = {
    ".html": Format.html,
    ".htm": Format.html,
    ".conll": Format.conll,
    ".tsv": Format.conll,
    ".iob2": Format.conll,
}


def extract(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts; '-' or no argument reads standard input."),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE|FOLDER|-",
            help="A file with one text per line or JSONL, or a folder of .txt and .jsonl files.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", dir_okay=False, help="Write to this file, completely or not at all."
        ),
    ] = None,
    model: Model = "base",
    format: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="Default: table on a terminal, else by suffix (.html, .conll, .tsv), else jsonl."
        ),
    ] = None,
    input_format: Annotated[
        InputFormat, typer.Option(help="Input format; auto decides by suffix and first line.")
    ] = InputFormat.auto,
    whole_file: Annotated[
        bool, typer.Option("--whole-file", help="Treat each text file as one text instead of one per line.")
    ] = False,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help="Use this language's adapter; default: route by retrieval.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Report only these labels, comma-separated: PER,ORG.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Report only entities with at least this probability; default: the model's."),
    ] = None,
    batch_size: BatchSize = 256,
    threads: Threads = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show the retrieved examples and known entities.")
    ] = False,
    verify: Verify = True,
    server: Server = None,
) -> None:
    """Find the entities in texts.

    Results are streamed in the order of the texts. Offsets count characters
    (Unicode code points), end exclusive.

    With JSONL input and output, other fields such as an id are kept; "text",
    "entities", "route", "language" and "knowledge" are overwritten.
    """
    from retrieveall.data.files import open_output

    wanted = split_list(labels, "--labels")
    source = _open_source(texts or [], input, input_format, whole_file)
    target = None if output is None or str(output) == "-" else output
    use_threads(threads)
    # Opened before the model is loaded, so that an unwritable file fails at once.
    with open_output(sys.stdout if target is None else target) as stream:
        from retrieveall import RetrieveAll

        opened = RetrieveAll.from_pretrained(model, verify=verify, server=server)
        renderer = _make_renderer(_choose(format, target), wanted or opened.labels, explain, target)

        unknown = done = 0

        def predict(batch: Sequence[str]) -> list[Prediction]:
            nonlocal unknown, done
            predictions = opened.predict(batch, language=language, labels=wanted, threshold=threshold)
            unknown += sum(prediction.route.reason == "unknown" for prediction in predictions)
            done += len(predictions)
            return predictions

        shown = source.size is not None and not (target is None and is_terminal(sys.stdout))
        with bar("extracting", source.size, unit="texts", shown=shown) as advance:
            _run(source.documents, batch_size, predict, renderer, stream, advance)
    _note_unknown(unknown, done, opened.languages)


def _note_unknown(unknown: int, texts: int, languages: Sequence[str]) -> None:
    if unknown:
        verb = "is" if unknown == 1 else "are"
        note(
            f"note: {unknown:,} of {texts:,} texts {verb} in a language that the model has no adapter for; the "
            f"backbone ran alone on them. The model has: {', '.join(languages)}; add one with: retrieveall add-language"
        )


def _run(
    documents: Iterable[Document],
    batch_size: int,
    predict: Callable[[Sequence[str]], list[Prediction]],
    renderer: Renderer,
    stream: IO[str],
    advance: Advance,
) -> None:
    from retrieveall.cli.inputs import batches

    stream.write(renderer.head())
    for batch in batches(documents, batch_size):
        predictions = predict([document.text for document in batch])
        for document, prediction in zip(batch, predictions, strict=True):
            stream.write(renderer.item(prediction, document.fields))
        stream.flush()
        advance(sum(document.size for document in batch), len(batch))
    stream.write(renderer.tail())


@dataclass(frozen=True, slots=True)
class _Source:
    """``size``: bytes of the input file, for the progress bar; None for other input."""

    documents: Iterable[Document]
    size: int | None = None


def _open_source(texts: Sequence[str], path: str | None, format: InputFormat, whole_file: bool) -> _Source:
    """The documents. The first is read at once, so that bad input fails before the model is loaded.

    Raises:
        typer.BadParameter: not exactly one source.
        DataError: no readable input.
    """
    from retrieveall.cli.inputs import Reader, from_arguments

    if path is not None and texts:
        raise typer.BadParameter("expected either TEXT or --input, got both", param_hint="TEXT")
    if texts and list(texts) != ["-"]:
        if len(texts) == 1 and len(texts[0]) < 256 and _is_file(texts[0]):
            note(f"note: {texts[0]!r} is treated as text; to read the file: --input {texts[0]}")
        return _Source(list(from_arguments(texts)))
    if path is None and not texts and is_terminal(sys.stdin):
        raise typer.BadParameter(
            "expected a text, --input FILE, or text on standard input, got none", param_hint="TEXT"
        )
    reader = Reader(path or "-", format=format, whole_file=whole_file)
    for empty in reader.skipped:
        note(f"note: {empty} is empty and was skipped")
    documents = iter(reader)
    if reader.stdin:  # standard input may be slow; the model can load meanwhile
        return _Source(documents)
    return _Source(chain([next(documents)], documents), reader.size)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _choose(format: Format | None, target: Path | None) -> Format:
    if format is not None:
        return format
    if target is not None:
        return _BY_SUFFIX.get(target.suffix.lower(), Format.jsonl)
    return Format.table if is_terminal(sys.stdout) else Format.jsonl


def _make_renderer(format: Format, labels: Sequence[str], explain: bool, target: Path | None) -> Renderer:
    if format is Format.jsonl:
        from retrieveall.cli.render.jsonl import JsonlRenderer

        return JsonlRenderer(explain=explain)
    if format is Format.conll:
        from retrieveall.cli.render.conll import ConllRenderer

        return ConllRenderer()
    if format is Format.html:
        from retrieveall.cli.render.html import HtmlRenderer

        return HtmlRenderer(labels, explain=explain)
    from rich.console import Console

    from retrieveall.cli.render.table import TableRenderer

    plain = target is not None or not is_terminal(sys.stdout)
    console = Console(width=_WIDTH, color_system=None) if plain else Console()
    return TableRenderer(console, labels, explain=explain)
