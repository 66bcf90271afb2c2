"""Which of the entities that a model found are returned: by a caller's threshold, or by the model's own two."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from retrieveall.config import ModelConfig
from retrieveall.data.borders import sentence_starts
from retrieveall.types import Entity, Prediction

__all__ = ["select"]


def select(prediction: Prediction, labels: Collection[str], threshold: float | None, config: ModelConfig) -> Prediction:
    """With the entities of these labels and at least the probability ``threshold``, 0 to 1.

    None takes the model's own thresholds: one for an entity, and a higher one that a sentence reaches with its surest
    entity, of whatever label, or has none. For most false entities stand in sentences without any, while a doubtful one
    beside a sure one is rather right (as edges are followed with two thresholds in Canny's detector).
    """
    if threshold is not None:
        return prediction.only(labels, threshold)
    likely = [entity for entity in prediction.entities if _score(entity) >= config.threshold]
    if any(_score(entity) < config.sentence_threshold for entity in likely):
        likely = [
            entity
            for sentence in _by_sentence(prediction.text, likely)
            if max(map(_score, sentence)) >= config.sentence_threshold
            for entity in sentence
        ]
    return replace(prediction, entities=tuple(likely)).only(labels)


def _score(entity: Entity) -> float:
    return entity.score or 0.0


def _by_sentence(text: str, entities: Sequence[Entity]) -> Iterator[list[Entity]]:
    """The entities in groups, ascending; none crosses a sentence end."""
    starts = list(sentence_starts(text))
    found: dict[int, list[Entity]] = {}
    for entity in entities:
        found.setdefault(bisect_right(starts, entity.start), []).append(entity)
    yield from found.values()
