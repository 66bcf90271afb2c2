"""The arrays of components against a plain dictionary, and where components are found in a text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.knowledge.components import Components, components_of
from retrieveall.knowledge.phrases import BREAK
from retrieveall.knowledge.words import WordTable, terminate


def key(*words: str) -> str:
    return BREAK.join(words)


def components_in(keys: list[str]) -> Components:
    """In two tables, as the surfaces of two languages are."""
    half = len(keys) // 2
    return Components([(0, WordTable(terminate(keys[:half]))), (half, WordTable(terminate(keys[half:])))])


def test_components_are_words_or_edges() -> None:
    assert components_of("Rom") == set()
    assert components_of(key("Ada", "K", ".", "Lovelace", "2nd", "1815")) == {"Ada", "Lovelace", "2nd"}
    assert components_of(key(*"東京大学")) == {key(*"東京"), key(*"大学"), key(*"東京大"), key(*"京大学")}
    assert components_of(key(*"東京")) == set()


def test_places_of_components() -> None:
    components = components_in([key("Titta", "Ruffo"), key(*"東京大学"), "Anna"])
    words = ["Ruffo", "Anna", *"東京大"]
    assert sorted(components.find(words, [True] * 5)) == [(0, 1), (2, 4), (2, 5)]
    assert list(components.find(words, [False, True, True, False, True])) == []
    assert list(components_in([]).find(words, [True] * 5)) == []


words = st.text(st.sampled_from("abÄ北京1.\u00b2"), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=6).map(lambda some: key(*some)), max_size=12))
def test_every_component_leads_to_its_surfaces(keys: list[str]) -> None:
    expected: dict[str, list[int]] = {}
    for number, surface in enumerate(keys):
        for component in components_of(surface):
            expected.setdefault(component, []).append(number)
    components = components_in(keys)
    assert {component: components.numbers(component) for component in expected} == expected
    assert components.numbers("unknown") == []
