"""What a cell gives a method, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from retrieveall.benchmark.corpora import Corpus
from retrieveall.config import BackboneConfig, LabelConfig, TrainingConfig
from retrieveall.errors import ConfigError
from retrieveall.training.data import Progress
from retrieveall.types import Entity, Sentence, Word

__all__ = ["Found", "InProcess", "Job", "PreparedRunner", "Runner", "folder_bytes", "repeated", "to_entities"]


@dataclass(frozen=True)
class Job:
    """One cell for its method.

    ``folder`` is the method's own: it holds the trained model and checkpoints. ``particles``: what may be a Korean
    particle is a word of its own for methods that get words, so that a name can end before it.
    """

    method: Any
    corpora: Mapping[str, Corpus]
    labels: tuple[LabelConfig, ...]
    seed: int
    folder: Path
    backbone: BackboneConfig | None = None
    training: TrainingConfig | None = None
    model: Mapping[str, Any] | None = None
    at_least: int = 0
    device: str | None = None
    particles: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def required_backbone(self) -> BackboneConfig:
        """The backbone.

        Raises:
            ConfigError: none is given.
        """
        if self.backbone is None:
            raise ConfigError(f"{self.method.name}: expected a backbone, got none; give one with --set backbone=DIR")
        return self.backbone


@dataclass(frozen=True, slots=True)
class Found:
    """The entities of one text; ``routed``: the language whose adapter ran, where something chose it."""

    entities: tuple[Entity, ...]
    routed: str | None = None


class Runner(Protocol):
    """A method at work on one job."""

    def fit(self) -> None:
        """Train and leave the model in the job's folder; stopped and called again, it goes on where it can."""
        ...

    def open(self) -> None:
        """Load the trained model for ``predict``."""
        ...

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        """The entities of texts of this language."""
        ...

    def trained_bytes(self) -> int:
        """Size of what was trained, beside the backbone where that is frozen."""
        ...

    @property
    def memory_mb(self) -> float:
        """Peak memory of another process that does the work; 0 where there is none."""
        ...

    def close(self) -> None:
        """Release processes; nothing is predicted afterwards."""
        ...


@runtime_checkable
class PreparedRunner(Runner, Protocol):
    """The runner of a method that ``is_prepared``."""

    def prepare(self, progress: Progress | None = None) -> None:
        """Do what comes before training and needs no GPU; ``fit`` goes on from it."""
        ...


class InProcess:
    """What runners have in common that work in this process."""

    memory_mb = 0.0

    def close(self) -> None:
        """Nothing to release."""


def repeated(sentences: Sequence[Sentence], at_least: int) -> list[Sentence]:
    """The sentences, several times over where there are fewer than ``at_least``: whole copies only."""
    if not sentences:
        return []
    return list(sentences) * max(1, at_least // len(sentences))


def to_entities(
    text: str, words: Sequence[Word], spans: Sequence[tuple[int, int, str]], probabilities: Sequence[float] = ()
) -> tuple[Entity, ...]:
    """Spans of words as entities of the text."""
    scores: Sequence[float | None] = probabilities or [None] * len(spans)
    return tuple(
        Entity(start := words[first].start, end := words[last - 1].end, label, text[start:end], probability)
        for (first, last, label), probability in zip(spans, scores, strict=True)
    )


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
