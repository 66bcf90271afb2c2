"""The arrays of parts against a plain dictionary, and where parts are found in a text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.knowledge.parts import Parts, parts_of
from retrieveall.knowledge.phrases import BREAK


def key(*words: str) -> str:
    return BREAK.join(words)


def test_parts_are_words_or_edges() -> None:
    assert parts_of("Rom") == set()
    assert parts_of(key("Ada", "K", ".", "Lovelace", "2nd", "1815")) == {"Ada", "Lovelace", "2nd"}
    assert parts_of(key(*"東京大学")) == {key(*"東京"), key(*"大学"), key(*"東京大"), key(*"京大学")}
    assert parts_of(key(*"東京")) == set()


def test_places_of_parts() -> None:
    parts = Parts([key("Titta", "Ruffo"), key(*"東京大学"), "Anna"])
    words = ["Ruffo", "Anna", *"東京大"]
    assert sorted(parts.find(words, [True] * 5)) == [(0, 1), (2, 4), (2, 5)]
    assert list(parts.find(words, [False, True, True, False, True])) == []
    assert list(Parts([]).find(words, [True] * 5)) == []


words = st.text(st.sampled_from("abÄ北京1.\u00b2"), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=6).map(lambda some: key(*some)), max_size=12))
def test_every_part_leads_to_its_surfaces(keys: list[str]) -> None:
    expected: dict[str, list[int]] = {}
    for number, surface in enumerate(keys):
        for part in parts_of(surface):
            expected.setdefault(part, []).append(number)
    parts = Parts(keys)
    assert len(parts) == len(expected)
    assert {part: parts.numbers(part) for part in expected} == expected
    assert parts.numbers("unknown") == []
