"""What is to be done to a corpus, and the counts of what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from retrieveall.distributed.corpus import Corpus
from retrieveall.types import Prediction

__all__ = ["Done", "Job", "ModelOptions", "OpenModel", "Predictor"]

_COUNTS = (
    *("texts", "characters", "entities", "unknown", "partly", "windows", "unknown_windows"),
    *("numbers", "binary"),
)
"""What is counted of a block."""


class Predictor(Protocol):
    """What a worker needs of a model."""

    def predict(
        self, texts: Sequence[str], *, language: str | None, labels: Sequence[str] | None, threshold: float | None
    ) -> list[Prediction]: ...


@dataclass(frozen=True)
class ModelOptions:
    """How each worker opens the model.

    Args:
        name: of a shipped model, a folder or a hub id that every worker can reach.
        engine: as for ``RetrieveAll.from_pretrained``; ``"vllm"`` runs on the worker's GPUs.
        gpus: of a worker; vLLM divides the backbone among several.
        fingerprint: of the model's files (``fingerprint``); a worker that finds others refuses. None: not compared.
    """

    name: str = "base"
    engine: str | None = None
    server: str | None = None
    device: str | None = None
    verify: bool = True
    gpus: float = 0
    fingerprint: str | None = None


OpenModel = Callable[[ModelOptions], Predictor]


@dataclass(frozen=True)
class Job:
    """A corpus, the folder for its results, the model and the options of ``RetrieveAll.predict``.

    Args:
        output: a path or URI.
        knowledge: write what was retrieved, too.
        batch_size: texts predicted together.
    """

    corpus: Corpus
    output: str
    model: ModelOptions = field(default_factory=ModelOptions)
    language: str | None = None
    labels: Sequence[str] | None = None
    threshold: float | None = None
    knowledge: bool = False
    batch_size: int = 256

    def identity(self) -> dict[str, Any]:
        """All that the results depend on; a run with another identity does not go on with them."""
        return {
            "input": self.corpus.identity(),
            "text column": self.corpus.column,
            "input format": sorted({file.format for file in self.corpus.files}),
            "block rows": self.corpus.block_rows,
            "model": self.model.name,
            "model's files": self.model.fingerprint,
            "engine": self.model.engine,
            "language": self.language,
            "labels": None if self.labels is None else list(self.labels),
            "threshold": self.threshold,
            "explain": self.knowledge,
        }


@dataclass(slots=True)
class Done:
    """Counts as in ``counts_of``.

    ``numbers`` and ``binary``: values of the input that JSON cannot hold, as in ``PlainValues``. ``before`` and
    ``characters_before``: texts that an earlier run had finished, and their characters.
    """

    texts: int = 0
    entities: int = 0
    unknown: int = 0
    partly: int = 0
    windows: int = 0
    unknown_windows: int = 0
    characters: int = 0
    numbers: int = 0
    binary: int = 0
    before: int = 0
    characters_before: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of a block; one that an earlier version finished has fewer."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + int(counts.get(name, 0)))

    def counts(self) -> dict[str, int]:
        """What ``add`` adds, for the record of a block."""
        return {name: getattr(self, name) for name in _COUNTS}
