"""Runs the parts of a measurement and gathers their results in one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.measure.documents import measure_documents
from recipes.measure.ordinary import measure_not_in_the_pool, measure_ordinary, read_ordinary
from recipes.measure.pairs import measure_pairs
from recipes.measure.panx import Split, measure_panx
from recipes.measure.running import RunningSet, measure_running, negatives, read_running
from recipes.measure.speed import measure_speed, texts_of_words
from recipes.measure.variant import Variant
from retrieveall.errors import InputError
from retrieveall.evaluation import Provenance
from retrieveall.types import LEVELS

__all__ = ["NEEDS", "Inputs", "Measurement", "parts_to_run"]

NEEDS = {
    "running": "ner",
    "negatives": "ner",
    "panx": "panx",
    "ordinary": "ordinary",
    "everyday": "everyday",
    "not_in_the_pool": "not_in_the_pool",
    "pairs": "ner",
    "documents": "ner",
    "speed": "ner",
}
"""The parts in the order in which they run, and the input of each."""


@dataclass(frozen=True)
class Inputs:
    """What a measurement reads; a part whose input is None cannot run. ``limit``: sentences of each file."""

    ner: Path | None = None
    panx: Path | None = None
    ordinary: Path | None = None
    everyday: Path | None = None
    not_in_the_pool: Path | None = None
    limit: int | None = None
    sets: tuple[str, ...] | None = None
    split: Split = "validation"


def parts_to_run(inputs: Inputs, only: Collection[str] | None) -> list[str]:
    """The wanted parts, or all for which there is an input.

    Raises:
        InputError: an unknown part, or one without its input.
    """
    for part in only or ():
        if part not in NEEDS:
            raise InputError(f"expected parts among {', '.join(NEEDS)}; got {part!r}")
        if getattr(inputs, NEEDS[part]) is None:
            raise InputError(f"{part} needs --{NEEDS[part].replace('_', '-')}")
    parts = [part for part in NEEDS if (part in only if only else getattr(inputs, NEEDS[part]) is not None)]
    if not parts:
        raise InputError("there is nothing to measure; give at least one of --ner, --panx, --ordinary, --everyday")
    return parts


class Measurement:
    """A model and what it is measured on."""

    def __init__(self, name: str, inputs: Inputs, variant: Variant | None = None) -> None:
        self.name = name
        self.inputs = inputs
        self.variant = variant or Variant()
        self.model = self.variant.open(name)

    def run(self, parts: Iterable[str], save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The results; ``save`` gets them after every part."""
        results: dict[str, Any] = {"format": 1, "model": self._title, "inputs": self._inputs_as_json()}
        results["variant"] = asdict(self.variant)
        for part in parts:
            results[part] = getattr(self, f"_{part}")()
            results["provenance"] = asdict(Provenance.collect(self.model))
            save(results)
        return results

    @property
    def _title(self) -> str:
        """The model's name and what is not as its folder says, for the heads of tables."""
        levels, precision = self.variant.levels, self.variant.cpu_precision
        shown = [] if levels == LEVELS else [f"levels: {', '.join(levels) or 'none'}"]
        return ", ".join([self.name, *shown, *([precision] if precision else [])])

    def _inputs_as_json(self) -> dict[str, Any]:
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self.inputs).items()}

    @cached_property
    def _sets(self) -> list[RunningSet]:
        return read_running(_path(self.inputs.ner), sets=self.inputs.sets, limit=self.inputs.limit)

    @cached_property
    def _running_results(self) -> dict[str, Any]:
        return measure_running(self.model, self._sets)

    def _running(self) -> dict[str, Any]:
        return self._running_results

    def _negatives(self) -> dict[str, Any]:
        return negatives(self._running_results)

    def _panx(self) -> dict[str, Any]:
        folder, split, limit = _path(self.inputs.panx), self.inputs.split, self.inputs.limit
        return measure_panx(self.model, folder, self.model.languages, split=split, limit=limit)

    def _ordinary(self) -> dict[str, Any]:
        return measure_ordinary(self.model, read_ordinary(_path(self.inputs.ordinary)))

    def _everyday(self) -> dict[str, Any]:
        return measure_ordinary(self.model, read_ordinary(_path(self.inputs.everyday)))

    def _not_in_the_pool(self) -> dict[str, Any]:
        lines = _path(self.inputs.not_in_the_pool).read_text(encoding="utf-8").splitlines()
        return measure_not_in_the_pool(self.model, [line for line in lines if line.strip()])

    def _pairs(self) -> dict[str, Any]:
        return measure_pairs(self.model, self._sets)

    def _documents(self) -> dict[str, Any]:
        return measure_documents(self.model, self._sets)

    def _speed(self) -> dict[str, Any]:
        return measure_speed(self.name, texts_of_words(self._sets), self.variant)


def _path(path: Path | None) -> Path:
    if path is None:  # parts_to_run has checked it
        raise InputError("this part has no input")
    return path
