"""``retrieveall validate``: corpus statistics and problems, with file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.options import split_list
from retrieveall.cli.progress import bar, is_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from retrieveall.data import CorpusReport

__all__ = ["validate"]

_WIDTH = 200  # if the output is not a terminal


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH", help="Files of one corpus, or a folder of {language}/{train,validation,test}.tsv."
        ),
    ],
    labels: Annotated[str | None, typer.Option(help="Allowed labels, comma-separated.")] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", help="Language of the files: zh and ja join tokens without spaces."),
    ] = None,
    problems: Annotated[int, typer.Option(min=0, help="Problems to list per kind and file.")] = 3,
) -> None:
    """Check a corpus: format, sentences, entities per label, ill-formed tags, duplicates, overlap between splits.

    Exits with 1 if there is an error: an unreadable line, a label that is not
    allowed, a duplicate id. Warnings do not change the exit code.
    """
    from rich.console import Console

    from retrieveall.config import check_language
    from retrieveall.data import validate as check

    if language is not None:
        check_language(language)
    allowed = split_list(labels, "--labels")
    reports: dict[str, CorpusReport] = {}
    corpora = _corpora(paths, language)
    with bar("checking", len(corpora), unit="corpora") as advance:
        for name, files in corpora.items():
            reports[name] = check(files, labels=allowed, language=name or None)
            advance(1, 1)
    console = Console() if is_terminal(sys.stdout) else Console(width=_WIDTH, color_system=None)
    _print(console, reports, problems)
    if not all(report.ok for report in reports.values()):
        raise typer.Exit(1)


def _corpora(paths: Sequence[str], language: str | None) -> dict[str, Mapping[str, str | Path]]:
    """Map language (empty if unknown) to its files by split.

    Raises:
        DataError: a folder without a corpus.
        typer.BadParameter: a file given twice, or folders mixed with files.
    """
    from retrieveall.data import find_splits, splits_in

    folders = [path for path in paths if Path(path).is_dir() and not _is_one_corpus(Path(path))]
    if not folders:
        if len(set(paths)) < len(paths):
            raise typer.BadParameter("a file is given twice", param_hint="PATH")
        return {language or "": {path: path for path in paths}}
    if len(paths) > 1:
        raise typer.BadParameter("expected files, or one folder; check folders one by one", param_hint="PATH")
    splits = splits_in(folders[0])
    return {language or "": splits} if splits else dict(find_splits(folders[0], [language] if language else None))


def _is_one_corpus(folder: Path) -> bool:
    """Whether a folder is a corpus of BRAT or Hugging Face files itself, and no folder of splits or languages."""
    from retrieveall.cli.corpora import is_corpus
    from retrieveall.data import find_splits, splits_in
    from retrieveall.errors import DataError

    if splits_in(folder):
        return False
    try:
        return not find_splits(folder)
    except DataError:  # nothing found
        return is_corpus(folder)


def _print(console: Console, reports: Mapping[str, CorpusReport], limit: int) -> None:
    from retrieveall.markup import visible

    table = _splits(reports)
    if table.row_count:
        console.print(table)
    lines = [line for report in reports.values() for line in _problems(report, limit)]
    lines.sort(key=lambda line: not line.startswith("error"))
    lines += [f"note: {line}" for report in reports.values() for line in _notes(report)]
    for part in (_overlaps(reports), lines):
        if part and table.row_count:
            console.print()
        for line in part:
            console.print(visible(line), markup=False, highlight=False, emoji=False, soft_wrap=True)
    counts = [problem.severity for report in reports.values() for problem in report.problems]
    verdict = "errors found" if "error" in counts else "no errors"
    console.print(f"\n{verdict}", markup=False, highlight=False)


def _splits(reports: Mapping[str, CorpusReport]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from retrieveall.markup import visible

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("corpus", overflow="fold")
    table.add_column("format", overflow="fold")
    for name in ("sentences", "words", "no entity", "ill-formed", "duplicates", "cut words"):
        table.add_column(name, justify="right")
    table.add_column("entities", overflow="fold")
    for language, report in reports.items():
        for name, split in report.splits.items():
            if not split.sentences:  # unreadable; the error is already listed
                continue
            labels = ", ".join(f"{label} {count:,}" for label, count in sorted(split.entities.items()))
            numbers = (
                split.sentences,
                split.words,
                split.entity_free,
                split.ill_formed,
                split.duplicates,
                split.misaligned,
            )
            title = f"{language} {name}" if language and name != split.path else name
            cells = (split.format, *(f"{number:,}" for number in numbers))
            table.add_row(Text(visible(title)), *cells, Text(visible(labels or "none")))
    return table


def _overlaps(reports: Mapping[str, CorpusReport]) -> list[str]:
    return [
        f"overlap: {count:,} sentences of {f'{language} {second}'.strip()} also occur in {first}"
        for language, report in reports.items()
        for (first, second), count in report.overlaps.items()
        if count
    ]


def _notes(report: CorpusReport) -> list[str]:
    """What was repaired or left out, by file."""
    return [f"{split.path}: {line}" for split in report.splits.values() for line in split.notes]


def _problems(report: CorpusReport, limit: int) -> Iterator[str]:
    """For every split and kind of finding, the first ones with file and line, and the number of others."""
    for name, split in report.splits.items():
        for kind, count in split.findings.items():
            found = [problem for problem in report.problems if problem.split == name and problem.kind == kind]
            for problem in found[:limit]:
                yield f"{problem.severity}: {problem}"
            more = count - len(found[:limit])
            if more:
                yield f"{found[0].severity}: {split.path}: {more:,} more of the kind '{kind}'"
