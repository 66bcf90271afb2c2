"""``retrieveall plan``: estimate memory and time of training and inference; downloads and loads nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from retrieveall.cli import completion
from retrieveall.cli.options import Languages, split_list
from retrieveall.cli.progress import is_terminal
from retrieveall.cli.training_options import DecoderName, Set, kind_of, read_training

if TYPE_CHECKING:
    from retrieveall.backbones import Architecture
    from retrieveall.config import LabelConfig, ModelConfig, TrainingConfig
    from retrieveall.planning import Plan, TokenCounter
    from retrieveall.types import Sentence

__all__ = ["plan"]


def plan(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A backbone with settings (llama-3-8b, llama-3-8b-instruct, qwen2.5-7b, qwen2.5-14b, "
            "xlm-roberta-base, xlm-roberta-large, multilingual-e5-small), a file like those, or a model folder.",
            autocompletion=completion.subjects,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="A folder with {language}/train.tsv files, or a model whose knowledge is used instead.",
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help=f"Estimate times on this GPU: {', '.join(completion.GPUS)}.",
            autocompletion=completion.gpus,
        ),
    ] = None,
    decoder: Annotated[
        DecoderName | None,
        typer.Option(help="Decoder settings of CONFIG to use, tagging by default; a model folder has its own."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", metavar="FOLDER", help="A local backbone, for its tokenizer and architecture."
        ),
    ] = None,
    languages: Languages = None,
    change: Set = None,
    quantization: Annotated[
        str | None, typer.Option(metavar="none|4bit", help="backbone.quantization; default: as in CONFIG.")
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Assumed share of the GPU's peak throughput.")
    ] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Estimate parameters, memory, tokens and time of a run. Loads no weights.

    Times are for one GPU at the given share of its peak. Memory excludes
    driver and allocator overhead: leave a tenth of the card free.
    """
    wanted = split_list(languages, "--languages")
    if wanted and data is None:
        raise typer.BadParameter("selects languages of a corpus; give the corpus with --data", param_hint="--languages")
    from retrieveall.planning import find_gpu, make_plan

    chosen = find_gpu(gpu) if gpu is not None else None
    corpus, labels = _corpus(data, wanted)
    settings, architecture, training, folder = _subject(config, decoder, backbone, change, labels)
    if quantization is not None:
        settings = _quantized(settings, quantization)
    found = make_plan(
        settings,
        architecture,
        training,
        corpus,
        counter=_counter(folder, settings),
        gpu=chosen,
        utilisation=utilisation,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=1))
    else:
        _print(found)


def _subject(
    name: str, decoder: DecoderName | None, backbone: str | None, change: list[str] | None, labels: list[LabelConfig]
) -> tuple[ModelConfig, Architecture, TrainingConfig, Path | None]:
    """Model settings, architecture, training settings, and the backbone's local folder if there is one."""
    from retrieveall.backbones import Architecture, find_preset, preset_names
    from retrieveall.errors import ConfigError
    from retrieveall.model_folder import SETTINGS, shipped_models

    local = Path(backbone) if backbone is not None else None
    preset = find_preset(name)
    if preset is not None:
        kind = kind_of(None, decoder)
        settings, training = preset.model_config_for(kind, labels), read_training(name, change, kind)
        return settings, Architecture.from_folder(local) if local else preset.architecture, training, local
    folder = shipped_models().get(name, Path(name))
    if not (folder / SETTINGS).is_file():
        raise ConfigError(
            f"expected one of {', '.join(preset_names())}, a file like those or a model folder, got {name[:200]!r}"
        )
    return _of_folder(folder, local, change)


def _of_folder(
    folder: Path, local: Path | None, change: list[str] | None
) -> tuple[ModelConfig, Architecture, TrainingConfig, Path | None]:
    from retrieveall.backbones import Architecture, find_preset, preset_names
    from retrieveall.config import ModelConfig, load_yaml
    from retrieveall.errors import ConfigError
    from retrieveall.model_folder import SETTINGS

    settings = load_yaml(ModelConfig, folder / SETTINGS)
    named = settings.backbone.path
    for place in (local, folder / named, Path(named)):
        if place is not None and place.is_dir():
            return settings, Architecture.from_folder(place), read_training(None, change), place
    for name in preset_names():
        preset = find_preset(name)
        if preset is not None and preset.model["backbone"]["path"] == named:
            return settings, preset.architecture, read_training(name, change, settings.decoder.kind), None
    raise ConfigError(
        f"expected a local copy of the backbone {named[:200]!r} for its architecture; give it with --backbone"
    )


def _quantized(settings: ModelConfig, value: str) -> ModelConfig:
    from retrieveall.config import BackboneConfig, parse_config

    raw = {**settings.backbone.model_dump(), "quantization": value}
    return settings.model_copy(update={"backbone": parse_config(BackboneConfig, raw, "--quantization")})


def _corpus(
    data: str | None, languages: Sequence[str] | None
) -> tuple[dict[str, Sequence[Sentence]] | None, list[LabelConfig]]:
    """Training sentences by language, from a corpus or a model's knowledge, and their labels."""
    from retrieveall.cli.corpora import find_split, read_split
    from retrieveall.config import LabelConfig
    from retrieveall.errors import LanguageError
    from retrieveall.model_folder import SETTINGS, ModelFolder, shipped_models

    if data is None:
        return None, [LabelConfig(name=name) for name in ("PER", "ORG", "LOC")]
    if data not in shipped_models() and not (Path(data) / SETTINGS).is_file():
        read = read_split(find_split(Path(data), "train", languages))
        names = {entity.label for own in read.values() for sentence in own for entity in sentence.entities}
        return dict(read), [LabelConfig(name=name) for name in sorted(names) or ("PER", "ORG", "LOC")]
    model = ModelFolder.open(data, verify=False)
    base = model.knowledge()
    missing = sorted(set(languages or ()) - set(base.languages))
    if missing:
        raise LanguageError(f"expected languages among {', '.join(base.languages)}, got {missing[0][:80]!r}")
    chosen = {
        language: cast("Sequence[Sentence]", base.sentences(language)) for language in languages or base.languages
    }
    return chosen, list(model.config.labels)


def _counter(folder: Path | None, settings: ModelConfig) -> TokenCounter | None:
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from retrieveall.planning import CodecCounter

    return CodecCounter(folder, settings)


def _print(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from retrieveall.markup import visible

    console = Console() if is_terminal(sys.stdout) else Console(width=120, color_system=None)
    grid = Table.grid(padding=(0, 2))
    for name, value in (*_model_rows(plan), *_memory_rows(plan), *_corpus_rows(plan), *_time_rows(plan)):
        grid.add_row(Text(name, style="dim"), Text(visible(value), overflow="fold"))
    console.print(grid)


def _model_rows(plan: Plan) -> list[tuple[str, str]]:
    packed = ", layers in 4 bits" if plan.quantization == "4bit" else ""
    return [
        ("backbone", f"{plan.backbone}, {plan.backbone_parameters:,} parameters{packed}"),
        ("adapter", f"{plan.adapter_parameters:,} parameters a language"),
        ("decoder", plan.decoder),
    ]


def _memory_rows(plan: Plan) -> list[tuple[str, str]]:
    one, run = plan.training, plan.inference
    kept = "with" if plan.gradient_checkpointing else "without"
    plural = "s" if plan.adapters > 1 else ""
    rows = [
        ("training memory", f"{_gb(one.total)}"),
        ("  weights", _gb(one.weights)),
        (f"  {plan.adapters} adapter{plural}", f"{_gb(one.optimiser)} with gradients and optimiser"),
        (
            "  activations",
            f"{_gb(one.activations)} {kept} checkpointing, at {plan.batch_size} rows of {plan.row_length:,} tokens "
            f"(with {_gb(one.with_checkpointing)}, without {_gb(one.without_checkpointing)})",
        ),
        ("  logits", _gb(one.logits)),
        ("inference memory", f"{_gb(run.total)}"),
        ("  weights, adapters", f"{_gb(run.weights)}, {_gb(run.adapters)}"),
    ]
    if run.cache_per_row:
        cache = f"{_gb(run.rows * run.cache_per_row)} in {run.rows} rows of {_gb(run.cache_per_row)}"
        rows.append(("  keys and values", cache))
    return [*rows, ("  working space", _gb(run.working))]


def _corpus_rows(plan: Plan) -> list[tuple[str, str]]:
    if plan.languages is None or plan.tokens_per_epoch is None:
        return []
    sentences = sum(each.sentences for each in plan.languages.values())
    batch = plan.batch_size * plan.gradient_accumulation
    return [
        ("corpus", f"{sentences:,} sentences of {', '.join(plan.languages)}"),
        (
            "tokens per epoch",
            f"{plan.tokens_per_epoch / 1e6:,.2f} million, {plan.tokens_per_epoch / sentences:,.0f} a row, "
            f"{plan.count_method}",
        ),
        ("steps per epoch", f"{plan.steps_per_epoch:,} of {batch} rows"),
    ]


def _time_rows(plan: Plan) -> list[tuple[str, str]]:
    if plan.gpu is None or plan.utilisation is None:
        return []
    fits = plan.training.total < 0.9e9 * plan.gpu.memory
    runs = plan.inference.total < 0.9e9 * plan.gpu.memory
    card = (
        f"{plan.gpu.title}, {plan.gpu.memory:,.0f} GB: training {'fits' if fits else 'does not fit'}, "
        f"inference {'fits' if runs else 'does not fit'}; "
    )
    if plan.seconds_per_epoch is None:
        return [("gpu", f"{card}times need a corpus: --data")]
    assert plan.seconds_of_training is not None
    assert plan.sentences_per_second is not None
    return [
        ("gpu", f"{card}{plan.utilisation:.0%} of {plan.gpu.tflops:,.0f} TFLOPS assumed"),
        (
            "training time",
            f"{_time(plan.seconds_per_epoch)} an epoch, {_time(plan.seconds_of_training)} for {plan.epochs:g}",
        ),
        ("extraction", f"{plan.sentences_per_second:,.0f} sentences a second"),
    ]


def _gb(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count < 1e10 else f"{count / 1e9:,.1f} GB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
