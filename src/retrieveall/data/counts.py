"""What is counted of predictions, by a run in one process and by workers alike, and said at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from retrieveall.types import Prediction

__all__ = ["Counted", "counts_of", "unknown_notes"]


class Counted(Protocol):
    """Sums of ``counts_of``."""

    texts: int
    unknown: int
    partly: int
    windows: int
    unknown_windows: int


def counts_of(predictions: Sequence[Prediction]) -> dict[str, int]:
    """Texts, their characters, entities and windows.

    ``unknown``: texts in a language without an adapter. ``partly``: other texts of which windows are in one.
    """
    known = [prediction for prediction in predictions if prediction.route.reason != "unknown"]
    return {
        "texts": len(predictions),
        "characters": sum(len(prediction.text) for prediction in predictions),
        "entities": sum(len(prediction.entities) for prediction in predictions),
        "unknown": len(predictions) - len(known),
        "partly": sum(prediction.unknown_windows > 0 for prediction in known),
        "windows": sum(prediction.windows for prediction in predictions),
        "unknown_windows": sum(prediction.unknown_windows for prediction in predictions),
    }


def unknown_notes(done: Counted, languages: Sequence[str]) -> list[str]:
    """A line if texts, or parts of them, are in a language without an adapter."""
    if not done.unknown and not done.partly:
        return []
    texts = f"{done.unknown:,} of {done.texts:,} text{'s' * (done.texts != 1)}"
    windows = f"{done.unknown_windows:,} of {done.windows:,} windows"
    if not done.partly:
        where, verb = texts, "is" if done.unknown == 1 else "are"
    elif done.unknown:
        where, verb = f"{texts}, and parts of {done.partly:,} more ({windows} in all),", "are"
    else:
        where = f"parts of {done.partly:,} of {done.texts:,} text{'s' * (done.texts != 1)} ({windows})"
        verb = "are"
    return [
        f"note: {where} {verb} in a language that the model has no adapter for; expect more mistakes in them. "
        f"The model has: {', '.join(languages)}; add one with: retrieveall add-language"
    ]
