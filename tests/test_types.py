"""The values that travel between the stages cannot be changed, and can be compared, hashed, pickled and copied."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from retrieveall.types import (
    AnswerFaults,
    Entity,
    FrozenMapping,
    Knowledge,
    KnownEntity,
    Neighbour,
    Prediction,
    Route,
    Sentence,
    Word,
)

ENTITY = Entity(0, 4, "LOC", "Köln", 0.9)
SENTENCE = Sentence("Köln", (ENTITY,), "de", "1")
KNOWN = KnownEntity(0, 4, "Köln", {"de": {"LOC": 2, "ORG": 1}, "fr": {"LOC": 1}})
ROUTE = Route({"de": 0.75, "fr": 0.25}, {"fr": 0.25, "de": 0.75}, "mixture")
KNOWLEDGE = Knowledge((Neighbour(SENTENCE, 0.5),), (KNOWN,))
VALUES = [
    Word("Köln", 0, 4),
    ENTITY,
    SENTENCE,
    Neighbour(SENTENCE, 0.5),
    KNOWN,
    KNOWLEDGE,
    Route(),
    ROUTE,
    AnswerFaults(1),
    Prediction("Köln", (ENTITY,), ROUTE, KNOWLEDGE),
    FrozenMapping({"b": 1, "a": FrozenMapping({"c": 2})}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal_and_hash_alike(value: Any, make: Callable[[Any], Any]) -> None:
    made = make(value)
    assert made == value
    assert type(made) is type(value)
    assert {value, made} == {value}
    assert repr(made) == repr(value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.__setitem__("a", 1),
        lambda m: m.__delitem__("de"),
        lambda m: m.__ior__({"a": 1}),
        lambda m: m.update(a=1),
        lambda m: m.setdefault("a", 1),
        lambda m: m.pop("de"),
        lambda m: m.popitem(),
        lambda m: m.clear(),
    ],
)
@pytest.mark.parametrize("mapping", [KNOWN.counts, KNOWN.counts["de"], ROUTE.adapters, ROUTE.votes, Route().votes])
def test_mappings_of_values_cannot_be_changed(mapping: Any, change: Callable[[Any], Any]) -> None:
    before = dict(mapping)
    with pytest.raises(TypeError, match="change a copy"):
        change(mapping)
    assert mapping == before


def test_what_was_given_can_change_without_changing_the_value() -> None:
    counts, votes = {"de": Counter(LOC=2)}, {"de": 1.0}
    known, route = KnownEntity(0, 4, "Köln", counts), Route(votes, votes)
    counts["de"]["LOC"] += 1
    counts["fr"] = Counter(PER=1)
    votes["de"] = 0.0
    assert known.counts == {"de": {"LOC": 2}}
    assert route == Route({"de": 1.0}, {"de": 1.0})


def test_mappings_are_like_dicts() -> None:
    mapping = FrozenMapping({"b": 1, "a": 2})
    assert mapping == {"a": 2, "b": 1}
    assert hash(mapping) == hash(FrozenMapping({"a": 2, "b": 1}))
    assert mapping != {"a": 2}
    assert list(mapping) == ["b", "a"]
    assert repr(mapping) == "{'b': 1, 'a': 2}"
    assert json.dumps(ROUTE.votes) == '{"fr": 0.25, "de": 0.75}'
    assert KNOWN.counts == {"de": {"LOC": 2, "ORG": 1}, "fr": {"LOC": 1}}
    changed = mapping | {"c": 3}
    changed["d"] = 4
    assert mapping == {"a": 2, "b": 1}
