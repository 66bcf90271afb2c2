"""Calls a model in batches and tells how far it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from retrieveall.evaluation import Predictor
from retrieveall.evaluation.evaluator import BATCH
from retrieveall.types import Prediction

__all__ = ["predict_all", "show_progress"]


def predict_all(model: Predictor, texts: Sequence[str], name: str) -> list[Prediction]:
    """The prediction for each text, routed; ``name`` is what progress on standard error calls the texts."""
    found: list[Prediction] = []
    for first in range(0, len(texts), BATCH):
        found += model.predict(texts[first : first + BATCH])
        show_progress(name, len(found), len(texts))
    return found


def show_progress(name: str, done: int, total: int | None) -> None:
    """A line on standard error."""
    print(f"{name}: {done}" + ("" if total is None else f" of {total}"), file=sys.stderr, flush=True)
