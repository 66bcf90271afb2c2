"""``retrieveall train``: train a model from a corpus, or new adapters for an existing model."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieveall.cli import completion
from retrieveall.cli.guard import FAILED, note
from retrieveall.cli.options import Languages, Threads, split_list, use_threads
from retrieveall.cli.progress import Stage, is_terminal, stages
from retrieveall.cli.training_options import (
    Config,
    Decoder,
    DecoderName,
    RunFolder,
    Set,
    few,
    kind_of,
    read_model_settings,
    read_training,
    sizes,
)
from retrieveall.errors import ConfigError

if TYPE_CHECKING:
    from retrieveall.backbones import DecoderKind
    from retrieveall.config import ModelConfig, TrainingConfig
    from retrieveall.training import LanguageData

__all__ = ["train"]

_OWN = "note: {} is an existing model; its own backbone and settings are used"
_AGAIN = "to train again, choose another --out, or change a setting and leave out --from and --backbone"


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder with {language}/train.tsv and validation.tsv files.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            file_okay=False,
            help="The model folder: created if missing; otherwise its adapters of these languages are replaced.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="For a new model with the labels of DATA: take backbone and settings from this model (base, mini, a "
            "model folder or a hub id).",
            autocompletion=completion.models,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="For a new model: a local model, which is copied, or a hub id, which is not."
        ),
    ] = None,
    copy_backbone: Annotated[
        bool, typer.Option(help="Copy a local backbone into the new model, or store its path.")
    ] = True,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For a new model: its retrieveall.yaml; by default the labels are taken from DATA."
        ),
    ] = None,
    languages: Languages = None,
    decoder: Decoder = None,
    config: Config = None,
    change: Set = None,
    run: RunFolder = None,
    threads: Threads = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Train each language as a separate Ray job: on the cluster at RAY_ADDRESS, or locally."
        ),
    ] = False,
) -> None:
    """Train one LoRA adapter per language on a frozen backbone, all in one run.

    The labels are those of DATA, whatever they are called:
    retrieveall train DATA --from base --out my-model

    Run the command again after an interruption: it resumes from the last
    checkpoint and ends with the same weights. When it is complete, the command
    says so and does nothing. For several GPUs or machines, start it with
    accelerate launch or torchrun; see docs/scaling.md.
    """
    if base is not None and (backbone or settings or decoder):
        raise typer.BadParameter("it brings its own backbone and settings; leave out the others", param_hint="--from")
    if settings is not None and decoder is not None:
        raise typer.BadParameter(f"{settings} already sets it; remove one of them", param_hint="--decoder")
    wishes = read_model_settings(config, decoder)
    if base is not None and wishes:
        raise typer.BadParameter(f"--from {base} brings its own backbone; give a YAML file", param_hint="--config")
    training = read_training(config, change, _kind(out, settings, decoder, base))
    wanted = split_list(languages, "--languages")
    use_threads(threads)
    from retrieveall.cli.folders import run_folder
    from retrieveall.training import check_installed

    check_installed()
    with stages(unit="sentences") as progress:
        corpora = _read(data, wanted, progress)
        from retrieveall.training.parallel import Processes
        from retrieveall.training.run import train as fit

        training = _suited(base, training)
        new = _New(base, backbone, copy_backbone, settings, wishes)
        if (before := _already_trained(out, new, corpora, training, apart=ray)) is not None:
            _tell(out, before, f"{out} is complete, trained by a run with this data and these settings; {_AGAIN}")
            return
        processes = Processes.join()  # set by a launcher; without one, a single process
        if ray and processes.count > 1:
            raise typer.BadParameter("Ray starts its own processes; run it without a launcher", param_hint="--ray")
        with processes.main_first():
            if processes.main:
                _prepare(out, new, corpora, progress)
                for name, of in corpora.items():
                    if few(of.train):
                        note(f"warning: {name}: {sizes(of.train)} are hardly enough to learn from; give more sentences")
        with run_folder(run, out, "train", keep=not processes.main) as place:
            if ray:
                _train_pool(out, corpora, training, place)
                return
            scores = fit(
                out,
                corpora,
                training,
                place,
                progress=progress,
                show_bar=is_terminal(sys.stderr),
                warn=lambda what: note(f"warning: {what}"),
            )
    if not processes.main:
        return
    _tell(out, scores, f"trained {len(corpora)} language{'s' * (len(corpora) != 1)} in {out}")


def _tell(out: Path, scores: Mapping[str, float | None], ended: str) -> None:
    for language, f1 in scores.items():
        if f1 is not None:
            typer.echo(f"{language}\tvalidation F1 {100 * f1:.1f}")
    typer.echo(ended)
    typer.echo(f'try it: retrieveall extract --model {shlex.quote(str(out))} "..."')


def _suited(base: str | None, training: TrainingConfig) -> TrainingConfig:
    """With the shape of the adapters of ``base``, as far as nothing else is set."""
    if base is None:
        return training
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.from_model import training_from

    return training_from(ModelFolder.open(base, verify=False), training)


def _train_pool(out: Path, corpora: Mapping[str, LanguageData], training: TrainingConfig, place: Path) -> None:
    from retrieveall.training.jobs import RayExecutor, train_pool

    def report(language: str, f1: float | None) -> None:
        typer.echo(language if f1 is None else f"{language}\tvalidation F1 {100 * f1:.1f}")

    result = train_pool(out, corpora, training, place, RayExecutor(), report=report)
    if result.kept:
        typer.echo(f"already trained: {', '.join(result.kept)}")
    for language, why in result.failures.items():
        note(f"error: {language}: {why}")
    typer.echo(f"trained {len(result.scores)} of {len(corpora)} languages in {out}")
    if result.failures:
        raise typer.Exit(FAILED)


def _kind(out: Path, settings: Path | None, decoder: DecoderName | None, base: str | None) -> DecoderKind:
    """The decoder kind that the training settings are for."""
    from retrieveall.config import ModelConfig, load_yaml

    if settings is not None and not _is_model(out):
        return load_yaml(ModelConfig, settings).decoder.kind
    return kind_of(base if base is not None and not _is_model(out) else out, decoder)


@dataclass(frozen=True)
class _New:
    """Options for a new model. ``wishes`` is part of a retrieveall.yaml, as plain data."""

    base: str | None
    backbone: str | None
    copy: bool
    settings: Path | None
    wishes: Mapping[str, Any]


def _already_trained(
    out: Path, new: _New, corpora: Mapping[str, LanguageData], training: TrainingConfig, *, apart: bool
) -> dict[str, float | None] | None:
    """The scores of a model that this very command has trained, else None."""
    from retrieveall.training.run import already_trained

    if not _is_model(out):
        return None
    scores = already_trained(out, corpora, training, apart=apart)
    if scores is None or not _is_made_from(out, new, corpora):
        return None
    if new.settings is not None:
        note(_OWN.format(out))
    return scores


def _is_made_from(out: Path, new: _New, corpora: Mapping[str, LanguageData]) -> bool:
    """Whether a model is what ``--from`` or ``--backbone`` would make; with neither, it is what is trained."""
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.from_model import local_backbone, settings_from

    model = ModelFolder.open(out, verify=False)
    source = None if new.backbone is None else Path(new.backbone)
    if new.base is not None:
        base = ModelFolder.open(new.base, verify=False)
        source = local_backbone(base) or Path(base.config.backbone.path)
        wanted = settings_from(base, model.config.name, _labels(corpora))
        own = ("prompt", "retrieval", "routing", "windows", "threshold", "labels")  # the others are completed
        if any(getattr(wanted, name) != getattr(model.config, name) for name in own):
            return False
    return source is None or model.has_backbone(source)


def _prepare(out: Path, new: _New, corpora: Mapping[str, LanguageData], progress: Stage) -> None:
    given = [name for name, value in (("--from", new.base), ("--backbone", new.backbone)) if value is not None]
    if not _is_model(out):
        _create(out, new, corpora, progress)
    elif given and _is_finished(out):
        raise ConfigError(
            f"expected a new folder for {given[0]}, {out} is a trained model; choose another folder, or leave "
            f"{given[0]} out to train it again, with other data or settings"
        )
    elif new.base is not None or new.backbone is not None or new.settings is not None:
        note(_OWN.format(out))


def _is_finished(folder: Path) -> bool:
    """Whether a model has adapters and no run is under way that would go on."""
    from retrieveall.cli.folders import run_of
    from retrieveall.model_folder import ModelFolder

    return bool(ModelFolder.open(folder).languages()) and not any(run_of(folder, "train").rglob("run.json"))


def _is_model(folder: Path) -> bool:
    from retrieveall.model_folder import SETTINGS
    from retrieveall.storage import recover

    if folder.is_dir():
        recover(folder)
    return (folder / SETTINGS).is_file()


def _read(data: Path, languages: list[str] | None, progress: Stage) -> dict[str, LanguageData]:
    from retrieveall.cli.corpora import Formats, find_split, read
    from retrieveall.data import find_splits
    from retrieveall.training import LanguageData

    formats = Formats()
    found = find_splits(data, languages)
    corpora = {}
    for language, path in find_split(data, "train", languages).items():
        validation = found[language].get("validation")
        corpora[language] = LanguageData(
            read(path, language, progress=progress, formats=formats),
            read(validation, language, progress=progress, formats=formats) if validation else (),
        )
    formats.tell()
    return corpora


def _create(out: Path, new: _New, corpora: Mapping[str, LanguageData], progress: Stage) -> None:
    from retrieveall.training.run import create_model

    if new.base is not None:
        _create_from(out, new.base, corpora, progress)
        return
    if new.backbone is None and new.settings is None and "backbone" not in new.wishes:
        raise typer.BadParameter(
            f"one of them is required for a new model, and {out} does not exist; --from base suits most",
            param_hint="--from or --backbone",
        )
    config = _settings(new, corpora, out.resolve().name)
    local = Path(new.backbone) if new.backbone is not None and Path(new.backbone).is_dir() else None
    if new.backbone is not None and (local is None or not new.copy):
        place = {"path": new.backbone if local is None else str(local.resolve())}
        config = config.model_copy(update={"backbone": config.backbone.model_copy(update=place)})
    create_model(out, config, corpora, backbone=local if new.copy else None, progress=progress)


def _create_from(out: Path, base: str, corpora: Mapping[str, LanguageData], progress: Stage) -> None:
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.from_model import local_backbone, settings_from
    from retrieveall.training.run import create_model

    labels = _labels(corpora)
    model = ModelFolder.open(base)
    config = settings_from(model, out.resolve().name, labels)
    note(f"note: new model {out} from {base}; labels: {', '.join(labels)}; languages: {', '.join(corpora)}")
    create_model(out, config, corpora, backbone=local_backbone(model), progress=progress)


def _labels(corpora: Mapping[str, LanguageData]) -> list[str]:
    """The labels of the training sentences, sorted.

    Raises:
        InputError: no sentence has an entity.
    """
    from retrieveall.errors import InputError

    labels = {entity.label for of in corpora.values() for sentence in of.train for entity in sentence.entities}
    if not labels:
        raise InputError(
            "expected training sentences with entities, got none; check the files, or name the labels with --settings"
        )
    return sorted(labels)


def _settings(new: _New, corpora: Mapping[str, LanguageData], name: str) -> ModelConfig:
    """The settings from the file, or from the options with the labels of the training sentences.

    Raises:
        InputError: no sentence has an entity.
    """
    from retrieveall.config import ModelConfig, load_yaml, parse_config

    if new.settings is not None:
        return load_yaml(ModelConfig, new.settings)
    raw = {
        "prompt": {"template": "plain.v1"},
        **new.wishes,
        "name": name,
        "labels": [{"name": label} for label in _labels(corpora)],
    }
    return parse_config(ModelConfig, raw, "the settings of a new model")
