"""What the shell completes: models, languages, labels, presets, formats and keys of settings.

It runs on every press of the tab key, so it lists files and reads small ones instead of opening a model, and imports no
library that computes. Where nothing matches, the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

import typer

__all__ = [
    "GPUS",
    "formats",
    "gpus",
    "keys",
    "labels",
    "languages",
    "models",
    "presets",
    "schemes",
    "splits",
    "subjects",
]

GPUS = ("h200", "h100", "h100-pcie", "a100", "a100-40", "l40s", "l4", "a10", "rtx4090", "rtx3090")
"""The names in ``planning.gpus``, which imports numpy."""
_DEFAULT_MODEL = "base"


def models(incomplete: str) -> list[str]:
    """Names of the shipped models."""
    return _matching(incomplete, _shipped())


def languages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Languages of the model of the command, after the last comma."""
    return _matching_item(incomplete, _languages(_model(ctx)))


def labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Labels of the model of the command, after the last comma."""
    return _matching_item(incomplete, _labels(_model(ctx)))


def presets(incomplete: str) -> list[str]:
    """Names of the backbones that have settings in the package."""
    return _matching(incomplete, (path.stem for path in _package("backbones").glob("*.yaml")))


def subjects(incomplete: str) -> list[str]:
    """What can be planned: backbones and shipped models."""
    return [*presets(incomplete), *models(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Formats of corpora."""
    from retrieveall.data.formats import FORMATS

    return _matching(incomplete, (format.name for format in FORMATS))


def gpus(incomplete: str) -> list[str]:
    """GPUs that times can be estimated on."""
    return _matching(incomplete, GPUS)


def schemes(incomplete: str) -> list[str]:
    """Schemes of tags."""
    from retrieveall.data.schemes import SCHEMES

    return _matching(incomplete, SCHEMES)


def splits(incomplete: str) -> list[str]:
    """Splits of a corpus."""
    return _matching(incomplete, ("train", "validation", "test"))


def keys(incomplete: str) -> list[str]:
    """Training settings as ``KEY=``, inner ones as ``lora.rank=``."""
    from retrieveall.config import LoraSettings, TrainingConfig

    inner = [f"lora.{name}" for name in LoraSettings.model_fields]
    return [f"{key}=" for key in _matching(incomplete, [*TrainingConfig.model_fields, *inner]) if key != "lora"]


def _matching(incomplete: str, values: Iterable[str]) -> list[str]:
    return sorted(value for value in values if value.startswith(incomplete))


def _matching_item(incomplete: str, values: Iterable[str]) -> list[str]:
    before, comma, item = incomplete.rpartition(",")
    return [before + comma + value for value in _matching(item, set(values) - set(before.split(",")))]


def _package(name: str) -> Path:
    return Path(str(resources.files("retrieveall") / name))


def _shipped() -> list[str]:
    return [path.parent.name for path in _package("models").glob("*/retrieveall.yaml")]


def _model(ctx: typer.Context) -> Path:
    """The folder of the model that the command line names so far."""
    named = str(ctx.params.get("model") or _DEFAULT_MODEL)
    return _package("models") / named if named in _shipped() else Path(named).expanduser()


def _languages(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from (path.name for path in (folder / "adapters").iterdir() if path.is_dir())


def _labels(folder: Path) -> list[str]:
    import yaml

    with suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        settings = yaml.safe_load((folder / "retrieveall.yaml").read_text("utf-8"))
        return [str(label["name"]) for label in settings["labels"]]
    return []
