"""How often a model sees entities where there are none. Counts sentences, not entities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retrieveall.evaluation.evaluator import Predictor, batches
from retrieveall.types import Sentence

__all__ = ["spurious_rate"]


def spurious_rate(
    model: Predictor, sentences: Mapping[str, Iterable[Sentence]], *, limit: int | None = None
) -> dict[str, float | None]:
    """Share of the sentences without a gold entity in which the model predicts at least one, by language.

    Sentences with gold entities are left out; a language without any other gets None. ``limit`` counts the
    entity-free sentences of each language. The model is not told the language.
    """
    rates: dict[str, float | None] = {}
    for name, some in sentences.items():
        total = spurious = 0
        for batch in batches((sentence for sentence in some if not sentence.entities), limit):
            predictions = model.predict([sentence.text for sentence in batch])
            total += len(batch)
            spurious += sum(bool(prediction.entities) for prediction in predictions)
        rates[name] = spurious / total if total else None
    return rates
