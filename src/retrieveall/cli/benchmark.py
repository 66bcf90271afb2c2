"""``retrieveall benchmark``: compare methods on a corpus, and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieveall.cli.guard import FAILED, note
from retrieveall.cli.training_options import yaml_value

if TYPE_CHECKING:
    from retrieveall.benchmark import BenchmarkConfig

__all__ = ["benchmark"]


def benchmark(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|DIR", help="The benchmark's YAML, or a folder of results to write the report of again."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Folder of results; by default the name of the benchmark.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=0, help="Cells that run at the same time, spread over the GPUs; 0: in this process."
        ),
    ] = 1,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting, such as backbone=DIR, data.train=100 or methods.0.k=5; repeatable.",
        ),
    ] = None,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Only index and make training examples, which takes no GPU; repeat without it to train."
        ),
    ] = False,
    ship: Annotated[
        Path | None,
        typer.Option(
            "--ship",
            metavar="DIR",
            file_okay=False,
            help="With a folder of results: copy them to DIR, without texts and directories of this machine.",
        ),
    ] = None,
) -> None:
    """Train and test methods on the same data, and report how they compare.

    A cell is one method with its languages, training sentences and seed. Run the
    command again to go on after an interruption: finished cells are kept, and a
    stopped training resumes from its checkpoint. The report is DIR/report.html,
    one file, and DIR/report.md. See docs/benchmark.md.
    """
    if target.is_dir():
        if out is not None or change or prepare:
            raise typer.BadParameter("a folder of results takes no option but --ship", param_hint="CONFIG|DIR")
        if ship is not None:
            _ship(target, ship)
        _report(ship or target)
        return
    if ship is not None:
        raise typer.BadParameter("expected a folder of results in place of a configuration", param_hint="--ship")
    from retrieveall.benchmark import load_benchmark
    from retrieveall.benchmark.report.figures import check_installed
    from retrieveall.benchmark.runner import prepare_benchmark, run_benchmark

    check_installed()  # else the report would fail after hours
    config = load_benchmark(target, _changes(change))
    folder = out or Path(config.name)
    _check_data(config)
    if prepare:
        made = prepare_benchmark(config, folder, say=note)
        done = made.kept + made.run - len(made.failures)
        typer.echo(f"{done} training{'s' * (done != 1)} prepared, {len(made.failures)} failed: {folder}")
        if made.failures:
            raise typer.Exit(FAILED)
        return
    outcome = run_benchmark(config, folder, jobs=jobs, say=note)
    typer.echo(f"{outcome.kept + outcome.run - len(outcome.failures)} cells finished, {len(outcome.failures)} failed")
    if outcome.kept + outcome.run > len(outcome.failures):
        _report(folder)
    if outcome.failures:
        raise typer.Exit(FAILED)


def _report(folder: Path) -> None:
    from retrieveall.benchmark.report import write_report

    typer.echo(f"report: {write_report(folder)}")


def _ship(source: Path, target: Path) -> None:
    from retrieveall.benchmark.ship import ship

    done = ship(source, target)
    typer.echo(f"{done.cells} cells, {done.size / 1e6:.2f} MB: {target}")
    if done.left_out:
        note(f"predictions left out: {done.left_out / 1e6:.1f} MB compressed")


def _changes(change: list[str] | None) -> dict[str, Any]:
    found = {}
    for each in change or ():
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"expected KEY=VALUE, got {each[:80]!r}", param_hint="--set")
        found[key] = yaml_value(value)
    return found


def _check_data(config: BenchmarkConfig) -> None:
    from retrieveall.errors import DataError

    path = config.data.path
    if not path.startswith("hf://") and not Path(path).is_dir():
        raise DataError(f"data.path: expected a folder or hf://owner/name, found none at {path}; set data.path=DIR")
