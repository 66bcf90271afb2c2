"""``retrieveall extract --engine ray``: a corpus to a folder of results, by workers on Ray."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from retrieveall.cli.guard import note
from retrieveall.cli.options import InputFormat
from retrieveall.cli.progress import bar, is_terminal
from retrieveall.cli.render import Format

if TYPE_CHECKING:
    from retrieveall.distributed import Corpus, Job

__all__ = ["Extract", "RayOptions", "extract_on_ray"]


@dataclass(frozen=True)
class RayOptions:
    """The options that only ``--engine ray`` takes; None where one is not given."""

    workers: int | None
    address: str | None
    worker_engine: str | None
    gpus_per_worker: float | None
    block_rows: int | None

    def given(self) -> str | None:
        """The name of one that is given."""
        names = {
            "--workers": self.workers,
            "--ray-address": self.address,
            "--worker-engine": self.worker_engine,
            "--gpus-per-worker": self.gpus_per_worker,
            "--block-rows": self.block_rows,
        }
        return next((name for name, value in names.items() if value is not None), None)


@dataclass(frozen=True)
class Extract:
    """The options of ``retrieveall extract``, as given."""

    texts: Sequence[str]
    input: str | None
    output: str | None
    model: str
    format: Format | None
    input_format: InputFormat
    text_column: str | None
    whole_file: bool
    language: str | None
    labels: Sequence[str] | None
    threshold: float | None
    batch_size: int
    threads: int | None
    device: str | None
    explain: bool
    verify: bool
    server: str | None


def extract_on_ray(options: Extract, ray: RayOptions) -> None:
    """Predict a corpus, and end with the notes that the local engine ends with.

    Raises:
        typer.BadParameter: options that do not go together.
        RetrieveAllError: as ``run_job``.
    """
    from retrieveall.cli.extraction import summary
    from retrieveall.data.counts import unknown_notes
    from retrieveall.data.plain_values import PlainValues
    from retrieveall.distributed import open_output, run_job
    from retrieveall.distributed.worker import fingerprint
    from retrieveall.model_folder import ModelFolder
    from retrieveall.ray_session import import_ray

    source, target = _check(options)
    import_ray("extract --engine ray")  # at once, before anything is read
    corpus = _find(options, source, ray.block_rows)
    folder = ModelFolder.open(options.model, verify=options.verify)
    job = _job(options, ray, corpus, target, fingerprint(folder))
    output = open_output(target, job.identity())
    started = time.monotonic()
    shown = is_terminal(sys.stderr)
    try:
        with bar("extracting", corpus.size, unit="texts", shown=shown) as advance:
            done = run_job(job, workers=ray.workers, threads=options.threads or 1, address=ray.address, report=advance)
    except KeyboardInterrupt:
        note(f"note: finished results are kept in {output.place.root}; repeat the command to go on")
        raise
    seconds = time.monotonic() - started
    values = PlainValues()
    values.restore(done.counts())
    for line in (*values.notes(), *unknown_notes(done, folder.languages())):
        note(line)
    characters = done.characters - done.characters_before
    note(summary(done.texts, done.entities, done.before, seconds, output.place.root, characters))


def _check(options: Extract) -> tuple[str, str]:
    """The input and the output.

    Raises:
        typer.BadParameter: options that do not go together.
    """
    from retrieveall.distributed.place import absolute

    if options.texts or options.input in (None, "-"):
        raise typer.BadParameter("expected --input FILE|FOLDER|URI with --engine ray", param_hint="--input")
    if options.output in (None, "-"):
        raise typer.BadParameter("expected --output FOLDER|URI with --engine ray", param_hint="--output")
    if options.format not in (None, Format.jsonl):
        raise typer.BadParameter("expected jsonl with --engine ray", param_hint="--format")
    if options.input_format in (InputFormat.csv, InputFormat.tsv) or options.whole_file:
        raise typer.BadParameter(
            "expected Parquet, JSONL, JSON or text with a row per text for --engine ray; convert the files",
            param_hint="--whole-file" if options.whole_file else "--input-format",
        )
    source, target = absolute(str(options.input)), absolute(str(options.output))
    if f"{target}/".startswith(f"{source}/"):
        raise typer.BadParameter(f"{target} is in the input; name another folder", param_hint="--output")
    return source, target


def _find(options: Extract, source: str, block_rows: int | None) -> Corpus:
    from retrieveall.distributed import find_corpus

    format = None if options.input_format is InputFormat.auto else options.input_format.value
    corpus, empty = find_corpus(
        source,
        format=format,  # type: ignore[arg-type]  # checked: one of the four
        column=options.text_column,
        **({} if block_rows is None else {"block_rows": block_rows}),
    )
    for name in empty[:5]:
        note(f"note: {name} is empty and was skipped")
    if len(empty) > 5:
        note(f"note: {len(empty) - 5:,} more files are empty and were skipped")
    return corpus


def _job(options: Extract, ray: RayOptions, corpus: Corpus, target: str, fingerprint: str) -> Job:
    from pathlib import Path

    from retrieveall.distributed import Job, ModelOptions
    from retrieveall.distributed.place import absolute

    folder = Path(options.model).expanduser().is_dir()
    model = ModelOptions(
        name=absolute(options.model) if folder else options.model,
        engine=ray.worker_engine,
        server=options.server,
        device=options.device,
        verify=options.verify,
        gpus=ray.gpus_per_worker if ray.gpus_per_worker is not None else float(ray.worker_engine == "vllm"),
        fingerprint=fingerprint,
    )
    return Job(
        corpus,
        target,
        model,
        language=options.language,
        labels=options.labels,
        threshold=options.threshold,
        knowledge=options.explain,
        batch_size=options.batch_size,
    )
