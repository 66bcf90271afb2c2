"""The values that travel between the stages cannot be changed, and can be compared, hashed, pickled and copied."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from retrieveall.errors import InputError
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
    to_dicts,
    to_rows,
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


def predicted(text: str, *spans: tuple[int, int, str]) -> Prediction:
    entities = tuple(Entity(start, end, label, text[start:end], 0.98765) for start, end, label in spans)
    return Prediction(text, entities, Route({"de": 1.0}, {"de": 0.75, "en": 0.25}), KNOWLEDGE)


def test_plain_data_is_json_and_has_everything() -> None:
    plain = predicted("Köln ist alt", (0, 4, "LOC")).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["entities"] == [{"start": 0, "end": 4, "label": "LOC", "text": "Köln", "score": 0.9877}]
    assert plain["route"] == {"adapters": {"de": 1.0}, "votes": {"de": 0.75, "en": 0.25}, "reason": "vote"}
    assert plain["language"] == "de"
    assert set(predicted("").to_dict(knowledge=True)) == {*plain, "knowledge"}
    assert to_dicts([predicted("a"), predicted("b")])[1]["text"] == "b"


def test_rows_are_a_flat_table_that_loses_no_text() -> None:
    rows = to_rows([predicted("Köln, Bonn", (0, 4, "LOC"), (6, 10, "LOC")), predicted("nichts")])
    assert [(row["row"], row["entity"]) for row in rows] == [(0, "Köln"), (0, "Bonn"), (1, None)]
    assert len({tuple(row) for row in rows}) == 1
    assert rows[2]["text"] == "nichts"


def test_printing_a_prediction_is_short() -> None:
    assert str(predicted("Köln ist\nalt", (0, 4, "LOC"))) == "Köln ist alt\n  LOC   Köln  0-4  0.988"
    assert str(predicted("nichts")) == "nichts\n  no entities"
    long = predicted("Köln " * 1000, *((5 * i, 5 * i + 4, "LOC") for i in range(1000)))
    assert len(str(long)) < 1000
    assert "... and 980 more" in str(long)
    assert "\x1b" not in str(predicted("\x1b[2J", (0, 4, "LOC")))
    assert len(repr(predicted("Köln", (0, 4, "LOC")))) < 300  # what was retrieved is left out


def test_a_notebook_shows_marked_text_and_runs_none() -> None:
    html = predicted('<script>alert("1")</script> Köln', (0, 8, "PER"), (28, 32, "LOC"))._repr_html_()
    assert "<script" not in html
    assert html.count("<mark") == 2
    assert "LOC, characters 28 to 32, probability 0.988" in html
    assert "http" not in html


def test_a_single_prediction_is_a_list_of_one() -> None:
    one = predicted("Köln, Bonn", (0, 4, "LOC"), (6, 10, "LOC"))
    assert to_dicts(one) == to_dicts([one]) == [one.to_dict()]
    assert to_rows(one) == to_rows([one])
    assert to_rows(each for each in [one]) == to_rows([one])


@pytest.mark.parametrize("function", [to_dicts, to_rows])
@pytest.mark.parametrize("wrong", [None, "abc", 5, [None], ["abc"], {"a": 1}, [{}]])
def test_what_are_no_predictions(function: Callable[..., Any], wrong: Any) -> None:
    with pytest.raises(InputError, match=r"expected predictions, as .* returns them, got"):
        function(wrong)
