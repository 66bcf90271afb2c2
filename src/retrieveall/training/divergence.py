"""Training that has diverged: losses, weights or scores that are no numbers any more, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from retrieveall.config import OptimisationConfig
from retrieveall.errors import ConfigError, NonFiniteError

__all__ = ["Divergence"]

_TRIES = 20  # steps in a row that a gradient scaler may skip while it looks for its scale


@dataclass
class Divergence:
    """Notices that a run has diverged.

    Args:
        skips: a gradient scaler leaves out steps with gradients that are no numbers.
        precision: what else may be at fault, as settings; empty in full precision.
    """

    learning_rate: float
    run_folder: Path
    skips: bool = False
    precision: str = ""
    _bad: int = 0

    @classmethod
    def of(cls, config: OptimisationConfig, run_folder: Path, module: nn.Module) -> Divergence:
        """That of a run of ``module``."""
        halves = {p.dtype for p in module.parameters() if p.is_floating_point()} & {torch.float16, torch.bfloat16}
        settings = ["backbone.dtype to float32"] if halves else []
        if config.mixed_precision in ("fp16", "bf16"):
            settings.append("mixed_precision to 'no'")
        return cls(config.learning_rate, run_folder, config.mixed_precision == "fp16", " and ".join(settings))

    def check_loss(self, loss: Tensor, step: int) -> None:
        """Refuse a loss that is no number, after so many steps.

        Raises:
            ConfigError: the run has diverged.
            NonFiniteError: nothing was trained yet, so the model itself is at fault.
        """
        if torch.isfinite(loss).all():
            self._bad = 0
            return
        if step == 0 and not self.skips:
            raise NonFiniteError
        self._bad += 1
        if not self.skips or self._bad >= _TRIES:
            raise self.error(f"the loss is {float(loss.detach().mean())} after {step:,} steps")

    def check_weights(self, weights: Iterable[Tensor], step: int) -> None:
        """Refuse weights that are no numbers.

        Raises:
            ConfigError: the run has diverged.
        """
        if not all(torch.isfinite(each).all() for each in weights):
            raise self.error(f"weights are NaN or infinite after {step:,} steps")

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Inside, scores that are no numbers are those of a diverged run.

        Raises:
            ConfigError: the run has diverged.
        """
        try:
            yield
        except NonFiniteError:
            raise self.error("its scores are NaN or infinite") from None

    def error(self, what: str) -> ConfigError:
        """What happened and what to do: the learning rate is at fault far more often than the precision."""
        also = f"; if a low rate diverges, too, set {self.precision}" if self.precision else ""
        return ConfigError(
            f"training diverged: {what}, with learning_rate {self.learning_rate:g}; lower it, for example "
            f"--set learning_rate={self.learning_rate / 10:.2g}, and remove {self.run_folder}, which holds this run"
            f"{also}"
        )
