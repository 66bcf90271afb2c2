"""``retrieveall evaluate``: score a model on gold sentences, by language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli import completion
from retrieveall.cli.guard import note
from retrieveall.cli.options import AllowNoAdapters, Languages, Model, Server, Threads, Verify, split_list, use_threads
from retrieveall.cli.progress import stages

if TYPE_CHECKING:
    from retrieveall.data import Corpus
    from retrieveall.evaluation import EvaluationReport

__all__ = ["evaluate"]

_SPLIT = "test"


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A folder with {language}/test.tsv files, or with --language a file or hf://..."
        ),
    ],
    model: Model = "base",
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of a folder: train, validation or test. Default: test.", autocompletion=completion.splits
        ),
    ] = None,
    languages: Languages = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            "-l",
            help="The language of DATA if it is a single file.",
            autocompletion=completion.languages,
        ),
    ] = None,
    gold_language: Annotated[
        bool, typer.Option("--gold-language", help="Use the adapter of the gold language instead of routing.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of sentences per language.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Also write the full report as JSON."),
    ] = None,
    threads: Threads = None,
    verify: Verify = True,
    server: Server = None,
    allow_no_adapters: AllowNoAdapters = False,
    unconstrained: Annotated[
        bool,
        typer.Option("--unconstrained", help="Decode a generating model without the grammar, for comparison."),
    ] = False,
) -> None:
    """Measure entity-level F1, calibration, routing and speed on gold sentences.

    Spans are compared exactly. A corpus of tokens labels whole tokens: there,
    predictions are widened to the tokens that they touch (Korean words with
    particles). F1 is reported on all sentences and on those that do not occur in the
    model's knowledge ("unseen"). For a generating model, three more columns
    give the share of answers with a line that does not parse ("malformed"), a
    mention that is not in the text ("invented") or a label that the model does
    not have ("unknown"); all zero unless --unconstrained is set.
    """
    wanted = split_list(languages, "--languages")
    files = _files(data, split, wanted, language)
    if output is not None and not output.resolve().parent.is_dir():
        raise typer.BadParameter(f"expected an existing folder for {output}", param_hint="--output")
    use_threads(threads)
    from retrieveall import RetrieveAll
    from retrieveall.cli.corpora import Formats
    from retrieveall.data import read_corpus
    from retrieveall.evaluation import evaluate as measure

    opened = RetrieveAll.from_pretrained(
        model,
        verify=verify,
        server=server,
        constrained=False if unconstrained else None,
        allow_no_adapters=allow_no_adapters,
    )
    sentences = {name: read_corpus(path, language=name) for name, path in files.items()}
    with stages(unit="sentences") as progress:
        report = measure(
            opened,
            sentences,
            language="gold" if gold_language else "routed",
            limit=limit,
            tokens=[name for name, path in files.items() if _of_tokens(path, sentences[name])],
            progress=progress,
            data=f"{Path(data).name} {(split or _SPLIT) if language is None else ''}".strip(),
        )
    formats = Formats()
    for corpus in sentences.values():
        formats.add(corpus)
    formats.tell()
    for name, scores in report.languages.items():
        if scores.sentences and scores.entity_free == scores.sentences:
            note(
                f"warning: {name}: no entity in {scores.sentences:,} sentences, so F1 says nothing of the model; "
                "check that the file is annotated"
            )
    if output is not None:
        report.save(output)
    _print(report)


def _files(data: str, split: str | None, languages: list[str] | None, language: str | None) -> dict[str, str | Path]:
    from retrieveall.cli.corpora import find_split
    from retrieveall.config import check_language

    if split not in (None, "train", "validation", "test"):
        raise typer.BadParameter(f"expected train, validation or test, got {split[:80]!r}", param_hint="--split")
    if Path(data).is_dir():
        if language is not None:
            raise typer.BadParameter("only for a single file; choose with --languages", param_hint="--language")
        return dict(find_split(Path(data), split or _SPLIT, languages))
    if not data.startswith("hf://") and not Path(data.partition("?")[0]).exists():
        from retrieveall.errors import DataError

        raise DataError(f"{data}: expected a folder or a file, found none; check the path")
    if split is not None:
        raise typer.BadParameter(
            f"only for a folder with a file per split; a file is evaluated whole, and a split of a data set is "
            f"{data.partition('?')[0][:80]}?split={split}",
            param_hint="--split",
        )
    if languages is not None:
        raise typer.BadParameter("only for a folder; give --language for a file", param_hint="--languages")
    if language is None:
        raise typer.BadParameter("required for a file; give its language", param_hint="--language")
    return {check_language(language): data}


def _of_tokens(path: str | Path, corpus: Corpus) -> bool:
    """Whether gold labels are of whole tokens; a file is closed again, since there may be hundreds of them."""
    from retrieveall.data import read_corpus

    return (read_corpus(path) if isinstance(path, Path) else corpus).format.of_tokens


def _print(report: EvaluationReport) -> None:
    typer.echo(report.to_text())
