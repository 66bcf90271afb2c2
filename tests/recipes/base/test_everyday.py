"""How short sentences of everyday life are made out of their templates."""

from __future__ import annotations

import random

import pytest

from recipes.base.settings import VariationSettings
from recipes.base.variations import Mentions, Writer, fill, word_list

NO_FORMS = VariationSettings(**dict.fromkeys(VariationSettings.model_fields, 0.0))


def test_a_slot_is_filled_and_marked() -> None:
    made = fill("{first} lives in {city}", {"first": "Ada", "city": "Rome"}.__getitem__, "en")
    assert made.text == "Ada lives in Rome"
    assert [(made.text[each.start : each.end], each.label) for each in made.entities] == [
        ("Ada", "PER"),
        ("Rome", "LOC"),
    ]


@pytest.mark.parametrize(
    ("name", "topic", "towards"),
    [
        ("서울", "서울은", "서울로"),
        ("파리", "파리는", "파리로"),
        ("부산", "부산은", "부산으로"),
        ("Oslo", "Oslo는", "Oslo로"),
    ],
)
def test_a_korean_particle_follows_the_last_sound_of_the_name(name: str, topic: str, towards: str) -> None:
    assert fill("{city}[은|는]", lambda _: name, "ko").text == topic
    assert fill("{city}[으로|로]", lambda _: name, "ko").text == towards
    assert fill("{city}[은|는]", lambda _: name, "ko").entities[0].end == len(name)


def test_a_case_is_asked_for_and_given() -> None:
    words = word_list("ru")
    forms = {name.split("|")[0]: name.split("|") for name in words["city"]}
    assert forms["Прага"] == ["Прага", "Праги", "Праге", "Прагу", "Прагой", "Праге"]
    writer = Writer("ru", NO_FORMS, Mentions(), {}, random.Random(1))
    assert {writer._everyday_name("city:acc") for _ in range(300)} == {each[3] for each in forms.values()}
