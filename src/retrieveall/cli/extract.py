"""``retrieveall extract``: predict entities and print them as a table, JSONL, CSV, TSV, CoNLL or HTML."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from retrieveall.cli import completion
from retrieveall.cli.extract_ray import Extract, RayOptions, extract_on_ray
from retrieveall.cli.finished import is_finished
from retrieveall.cli.guard import note
from retrieveall.cli.options import (
    AllowNoAdapters,
    BatchSize,
    Device,
    InputFormat,
    Model,
    Server,
    Threads,
    Verify,
    finite,
    probability,
    split_list,
    use_threads,
)
from retrieveall.cli.progress import bar, is_terminal
from retrieveall.cli.render import Format

if TYPE_CHECKING:
    from retrieveall.cli.extraction import Source
    from retrieveall.cli.render import Renderer
    from retrieveall.cli.resume import Partial
    from retrieveall.data.documents import Document

__all__ = ["extract"]


class Runner(StrEnum):
    """Where the texts are predicted: in this process, or by workers on Ray."""

    local = "local"
    ray = "ray"


_WIDTH = 120  # columns of a table written to a file
_BY_SUFFIX = {
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".html": Format.html,
    ".htm": Format.html,
    ".conll": Format.conll,
    ".iob2": Format.conll,
    ".txt": Format.table,
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
            help="One text per line (.txt), a table (.csv, .tsv, .parquet, .jsonl, .json), or a folder of .txt and "
            ".jsonl files; with --engine ray also a URI.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file, completely or not at all; with --engine ray a folder or a URI.",
        ),
    ] = None,
    model: Model = "base",
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="table, jsonl, csv, tsv, conll or html. Default: by the ending of --output (.txt for table), else "
            "table on a terminal and jsonl in a pipe.",
        ),
    ] = None,
    input_format: Annotated[
        InputFormat,
        typer.Option(
            metavar="FORMAT", help="text, jsonl, json, csv, tsv or parquet; auto decides by ending and first line."
        ),
    ] = InputFormat.auto,
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column",
            metavar="NAME",
            help="The column of a table that holds the texts; the others are carried into the output. Default: text.",
        ),
    ] = None,
    whole_file: Annotated[
        bool, typer.Option("--whole-file", help="Treat each text file as one text instead of one per line.")
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            "-l",
            help="Use this language's adapter; default: route by retrieval.",
            autocompletion=completion.languages,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Report only these labels, comma-separated: PER,ORG.", autocompletion=completion.labels),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            callback=probability,
            help="Report only entities with at least this probability, 0 to 1; default: the model's.",
        ),
    ] = None,
    batch_size: BatchSize = 256,
    threads: Threads = None,
    device: Device = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show the retrieved examples and known entities.")
    ] = False,
    verify: Verify = True,
    server: Server = None,
    allow_no_adapters: AllowNoAdapters = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="For long runs: keep finished results beside --output, and go on after them when repeated; always so "
            "with --engine ray.",
        ),
    ] = False,
    engine: Annotated[
        Runner,
        typer.Option(
            "--engine",
            help="local, or ray for corpora larger than a machine: Parquet, JSONL, JSON and text from local disk or "
            "object storage, by several workers, to a folder of JSONL files.",
        ),
    ] = Runner.local,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="With --engine ray: processes that hold the model. Default: one per GPU asked for with "
            "--gpus-per-worker, else one per --threads CPUs.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="With --engine ray: the cluster; default: RAY_ADDRESS, and without that this machine alone.",
        ),
    ] = None,
    worker_engine: Annotated[
        str | None,
        typer.Option(
            "--worker-engine",
            metavar="ENGINE",
            help="With --engine ray: transformers (default), or vllm for large backbones.",
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-worker",
            min=0,
            callback=finite,
            help="With --engine ray: GPUs of a worker, such as 1, or 0.5 for two workers on one. Default: 1 for vllm, "
            "else 0.",
        ),
    ] = None,
    block_rows: Annotated[
        int | None,
        typer.Option(
            "--block-rows",
            min=1,
            help="With --engine ray: the most rows of a block, which is a file of results, and done again if its "
            "worker is lost. Default: 5,000.",
        ),
    ] = None,
) -> None:
    """Find the entities in texts.

    Results are streamed in the order of the texts. Offsets count characters
    (Unicode code points), end exclusive.

    JSONL, CSV and TSV keep the other fields of a table, such as an id. In JSONL,
    "text", "entities", "route", "language" and "knowledge" are overwritten. CSV
    and TSV have a row per entity, and one for a text without; a column of the
    input that is named as one of theirs, such as "label", is kept as
    "input_label".
    """
    wanted = split_list(labels, "--labels")
    on_ray = RayOptions(workers, ray_address, worker_engine, gpus_per_worker, block_rows)
    if engine is Runner.ray:
        given = Extract(
            *(texts or [], input, output, model, format, input_format, text_column, whole_file, language, wanted),
            *(threshold, batch_size, threads, device, explain, verify, server),
        )
        extract_on_ray(given, on_ray)
        return
    if (name := on_ray.given()) is not None:
        raise typer.BadParameter("this option needs --engine ray", param_hint=name)
    target = None if output is None or output == "-" else Path(output)
    if target is not None and target.is_dir():
        raise typer.BadParameter(f"expected a file, got the folder {target}", param_hint="--output")
    chosen = _choose(format, target)
    source = _open_source(texts or [], input, input_format, whole_file, text_column)
    if resume and (target is None or not source.files):
        raise typer.BadParameter("expected --input and --output as files with --resume", param_hint="--resume")
    if target is not None and any(_is_same(target, file) for file in source.files):
        raise typer.BadParameter(f"{target} is the input; name another file", param_hint="--output")
    use_threads(threads)
    options = {
        **{
            "input": source.identity(),
            "model": model,
            "state of the model": _state_of(model),
            "format": chosen.value,
            "text column": text_column,
        },
        **{"input format": input_format.value, "whole file": whole_file, "language": language},
        **{"labels": wanted, "threshold": "the model's own" if threshold is None else threshold, "explain": explain},
    }
    if resume and target is not None and is_finished(target, options):
        note(f"{target} is complete, by a run with this input, this model and these options; there is nothing to do")
        return
    # Opened before the model is loaded, so that an unwritable file fails at once.
    with _open_target(target, options if resume else None) as (stream, partial):
        from retrieveall import RetrieveAll
        from retrieveall.cli.extraction import Extraction
        from retrieveall.cli.inputs import unread_notes
        from retrieveall.data.counts import unknown_notes

        opened = RetrieveAll.from_pretrained(
            model, verify=verify, server=server, device=device, allow_no_adapters=allow_no_adapters
        )
        renderer = _make_renderer(chosen, wanted or opened.labels, explain, target)
        run = Extraction(opened, renderer, stream, partial, language=language, labels=wanted, threshold=threshold)
        shown = source.size is not None and not (target is None and is_terminal(sys.stdout))
        with bar("extracting", source.size, unit="texts", shown=shown) as advance:
            run.over(source.documents, batch_size, advance)
    # The result of an earlier run may lie in the folder; nobody expects it to be read.
    unread = unread_notes([path for path in source.unread if target is None or not _is_same(target, path)], text_column)
    unknown = unknown_notes(run.done, opened.languages)
    for line in (*renderer.notes(), *unread, *unknown):
        note(line)
    if target is not None or source.files:
        note(run.summary("" if target is None else str(target)))


@contextmanager
def _open_target(target: Path | None, options: Mapping[str, Any] | None) -> Iterator[tuple[IO[str], Partial | None]]:
    """The stream to write to; with ``options``, what an earlier run with the same options has finished is kept."""
    from retrieveall.cli.resume import open_partial
    from retrieveall.data.files import open_output

    if options is not None and target is not None:
        with open_partial(target, options) as partial:
            try:
                yield partial.stream, partial
            except KeyboardInterrupt:
                if partial.state:
                    note(f"note: finished results are kept in {target}.part; repeat the command to go on")
                raise
        return
    with open_output(sys.stdout if target is None else target) as stream:
        yield stream, None


def _state_of(model: str) -> str | None:
    """What tells a model that was changed from itself before; None for one on a hub."""
    from retrieveall.model_folder import shipped_models
    from retrieveall.storage import MANIFEST

    manifest = shipped_models().get(model, Path(model).expanduser()) / MANIFEST
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if _is_file(str(manifest)) else None


def _is_same(target: Path, file: Path) -> bool:
    return target.exists() and file.exists() and target.samefile(file)


def _open_source(
    texts: Sequence[str], path: str | None, format: InputFormat, whole_file: bool, column: str | None
) -> Source:
    """The documents. The first is read at once, so that bad input fails before the model is loaded.

    Raises:
        typer.BadParameter: not exactly one source, or a text column without a table.
        DataError: no readable input.
    """
    from retrieveall.cli.extraction import Source
    from retrieveall.cli.inputs import Reader, from_arguments, is_file_name

    if path is not None and texts:
        raise typer.BadParameter("expected either TEXT or --input, got both", param_hint="TEXT")
    if len(texts) > 1 and "-" in texts:
        raise typer.BadParameter("expected texts, or '-' alone for standard input, got both", param_hint="TEXT")
    if texts and list(texts) != ["-"]:
        if column is not None:
            raise typer.BadParameter(
                "expected a table as --input with this option, got TEXT; omit one of them", param_hint="--text-column"
            )
        if len(texts) == 1 and len(texts[0]) < 256:
            if _is_file(texts[0]):
                note(f"note: {texts[0]!r} is treated as text; to read the file: --input {texts[0]}")
            elif is_file_name(texts[0]):
                note(f"note: {texts[0]!r} is treated as text; there is no such file, and one is read with --input FILE")
        return Source(list(from_arguments(texts)))
    if path is None and not texts and is_terminal(sys.stdin):
        raise typer.BadParameter(
            "expected a text, --input FILE, or text on standard input, got none", param_hint="TEXT"
        )
    reader = Reader(path or "-", format=format, whole_file=whole_file, column=column)
    for empty in reader.skipped:
        note(f"note: {empty} is empty and was skipped")
    documents = iter(reader)
    if reader.stdin:  # standard input may be slow; the model can load meanwhile
        return Source(documents)
    return Source(_with_first(documents), reader.size, tuple(reader.files), tuple(reader.unread))


def _with_first(documents: Iterator[Document]) -> Iterator[Document]:
    """The documents, the first of which is read now."""
    first = next(documents, None)
    return iter(()) if first is None else chain([first], documents)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _choose(format: Format | None, target: Path | None) -> Format:
    if format is not None:
        return format
    if target is not None:
        found = _BY_SUFFIX.get(target.suffix.lower())
        if found is None and (target.suffix or not target.exists()):  # a device or pipe has no ending
            raise typer.BadParameter(
                f"expected a file that ends in {', '.join(_BY_SUFFIX)}, got {target.name!r}; give --format to write it "
                "anyway",
                param_hint="--output",
            )
        return found or Format.jsonl
    return Format.table if is_terminal(sys.stdout) else Format.jsonl


def _make_renderer(format: Format, labels: Sequence[str], explain: bool, target: Path | None) -> Renderer:
    if format is Format.jsonl:
        from retrieveall.cli.render.jsonl import JsonlRenderer

        return JsonlRenderer(explain=explain)
    if format in (Format.csv, Format.tsv):
        from retrieveall.cli.render.separated import SeparatedRenderer

        return SeparatedRenderer("," if format is Format.csv else "\t")
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
