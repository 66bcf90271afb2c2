"""A model opened as its folder does not say: with other levels of knowledge in the prompt, in another precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from retrieveall import RetrieveAll
from retrieveall.config import CpuPrecision
from retrieveall.engines import open_engine
from retrieveall.errors import InputError
from retrieveall.model_folder import ModelFolder
from retrieveall.types import LEVELS, Level, Prediction

__all__ = ["Variant"]


@dataclass(frozen=True)
class Variant:
    """How to run a model. Its files are not changed.

    Args:
        levels: the levels of knowledge that the prompt shows; routing uses all that was retrieved.
        cpu_precision: ``backbone.cpu_precision`` of the settings; None: as the model has it.
    """

    levels: tuple[Level, ...] = LEVELS
    cpu_precision: CpuPrecision | None = None

    @classmethod
    def parse(cls, levels: Sequence[str] | None, cpu_precision: str | None) -> Variant:
        """The variant of command-line values.

        Raises:
            InputError: an unknown level or precision.
        """
        levels = list(LEVELS) if levels is None else [name for name in levels if name != "none"]
        if unknown := [name for name in levels if name not in LEVELS]:
            raise InputError(f"expected levels among {', '.join(LEVELS)}, or none, got {unknown[0]!r}")
        if cpu_precision not in (None, *get_args(CpuPrecision)):
            raise InputError(f"expected a precision of {', '.join(get_args(CpuPrecision))}, got {cpu_precision!r}")
        return cls(tuple(level for level in LEVELS if level in levels), cpu_precision)  # type: ignore[arg-type]

    @property
    def plain(self) -> bool:
        """Whether the model runs as its folder says."""
        return self == Variant()

    def open(self, name: str) -> RetrieveAll:
        """The model, on the CPU."""
        folder = ModelFolder.open(name)
        if self.cpu_precision is not None:
            backbone = folder.config.backbone.model_copy(update={"cpu_precision": self.cpu_precision})
            folder = replace(folder, config=folder.config.model_copy(update={"backbone": backbone}))
        model = _Shown(folder, open_engine(folder.config, folder.path, device="cpu"))
        model.levels = self.levels
        return model


class _Shown(RetrieveAll):
    """A model whose prompts show some levels only."""

    levels: tuple[Level, ...] = LEVELS

    def predict(self, texts: str | Sequence[str], **options: Any) -> list[Prediction]:
        """As ``RetrieveAll.predict``."""
        return super().predict(texts, **{"levels": self.levels} | options)
