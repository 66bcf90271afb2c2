"""PAN-X: F1 with the corpus's own spaces, routed, as ``retrieveall evaluate`` gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from recipes.corpora import Sentences
from recipes.measure.prediction import show_progress
from retrieveall.errors import InputError
from retrieveall.evaluation import Predictor, evaluate

__all__ = ["Split", "measure_panx"]

Split: TypeAlias = Literal["validation", "test"]


def measure_panx(
    model: Predictor, folder: Path, languages: Sequence[str], *, split: Split = "validation", limit: int | None = None
) -> dict[str, Any]:
    """Scores of the first ``limit`` sentences of each language that has a file, and their means.

    Raises:
        InputError: no language has a file.
    """
    there = tuple(name for name in languages if (folder / name / f"{split}.tsv").is_file())
    if not there:
        raise InputError(f"expected {folder}/LANGUAGE/{split}.tsv, found no such file; check --panx")
    corpus = Sentences(folder, split, there, limit)
    report = evaluate(
        model,
        {name: corpus.of(name) for name in there},
        tokens=there,
        progress=lambda *at: show_progress(f"panx {at[0]}", *at[1:]),
    )
    by_language = {
        name: {
            "sentences": one.sentences,
            "f1": one.f1,
            "unseen_f1": one.unseen_f1,
            "calibration_error": one.calibration_error,
            "routed_right": one.routing_accuracy,
        }
        for name, one in report.languages.items()
    }
    return {"split": split, "languages": by_language, "mean": dict(report.mean)}
