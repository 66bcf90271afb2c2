"""The thresholds of a caller, and the model's own two."""

from __future__ import annotations

import pytest

from retrieveall.config import LabelConfig, ModelConfig
from retrieveall.thresholds import select
from retrieveall.types import Entity, Knowledge, Prediction, Route

LABELS = ("PER", "LOC")
CONFIG = ModelConfig(labels=tuple(LabelConfig(name=label) for label in LABELS), threshold=0.3, sentence_threshold=0.6)


def found(text: str, *entities: tuple[str, str, float]) -> Prediction:
    placed = []
    for mention, label, score in entities:
        start = text.index(mention)
        placed.append(Entity(start, start + len(mention), label, mention, score))
    placed.sort(key=lambda each: each.start)
    return Prediction(text, tuple(placed), Route(), Knowledge())


def mentions(prediction: Prediction) -> list[str]:
    return [entity.text for entity in prediction.entities]


def test_doubtful_entity_stays_only_beside_a_sure_one_in_its_sentence() -> None:
    alone = found("Good luck in May!", ("May", "PER", 0.5))
    assert mentions(select(alone, LABELS, None, CONFIG)) == []
    beside = found("Ada met May in Rome. Then May left.", ("Ada", "PER", 0.9), ("Rome", "LOC", 0.4))
    assert mentions(select(beside, LABELS, None, CONFIG)) == ["Ada", "Rome"]
    text = "Ada came home. Hope is all that is left. Paris is far."
    prediction = found(text, ("Ada", "PER", 0.6), ("Hope", "PER", 0.59), ("Paris", "LOC", 0.9))
    assert mentions(select(prediction, LABELS, None, CONFIG)) == ["Ada", "Paris"]


def test_an_entity_below_the_first_threshold_never_stays() -> None:
    prediction = found("Ada met May.", ("Ada", "PER", 0.9), ("May", "PER", 0.29))
    assert mentions(select(prediction, LABELS, None, CONFIG)) == ["Ada"]


def test_a_sure_entity_of_another_label_counts() -> None:
    prediction = found("Ada left Hope.", ("Ada", "PER", 0.9), ("Hope", "LOC", 0.4))
    assert mentions(select(prediction, ("LOC",), None, CONFIG)) == ["Hope"]


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, ["Ada", "May"]), (0.3, ["Ada"]), (0.55, [])])
def test_threshold_of_the_caller_takes_the_place_of_both(threshold: float, expected: list[str]) -> None:
    prediction = found("Ada met May.", ("Ada", "PER", 0.5), ("May", "PER", 0.2))
    assert mentions(select(prediction, LABELS, threshold, CONFIG)) == expected


def test_without_settings_everything_is_returned() -> None:
    config = ModelConfig(labels=CONFIG.labels)
    prediction = found("Ada met May.", ("Ada", "PER", 0.01), ("May", "PER", 0.2))
    assert select(prediction, LABELS, None, config) == prediction


def test_entities_without_a_score_are_unsure() -> None:
    text = "Ada met May."
    prediction = Prediction(text, (Entity(0, 3, "PER", "Ada", None),), Route(), Knowledge())
    assert mentions(select(prediction, LABELS, None, CONFIG)) == []
