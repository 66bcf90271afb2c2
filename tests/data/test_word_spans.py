"""Spans of characters to spans of words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.data import segment, to_word_spans
from retrieveall.types import Entity

TEXTS = st.text(st.sampled_from("ab北か .,-'\u0301\u200d👩🏽ש\n"), max_size=30)


@given(TEXTS, st.data())
def test_entities_of_whole_words_are_those_words(text: str, data: st.DataObject) -> None:
    words = segment(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = [(a, b, "X") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    entities = [Entity(words[first].start, words[last - 1].end, label) for first, last, label in spans]
    assert to_word_spans(words, entities) == to_word_spans(words, reversed(entities)) == spans


@given(TEXTS, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8))
def test_spans_are_in_order_inside_and_free_of_overlap(text: str, pieces: list[tuple[int, int]]) -> None:
    words = segment(text)
    position = 0
    for first, last, _ in to_word_spans(words, [Entity(start, start + size, "X") for start, size in pieces]):
        assert position <= first < last <= len(words)
        position = last


def test_an_entity_inside_a_word_takes_the_word() -> None:
    words = segment("Petersburgers left")
    assert to_word_spans(words, [Entity(0, 10, "LOC")]) == [(0, 1, "LOC")]
    assert to_word_spans(words, [Entity(10, 15, "LOC")]) == [(0, 2, "LOC")]


def test_a_word_belongs_to_one_entity() -> None:
    words = segment("Petersburgers left")
    entities = [Entity(0, 5, "A"), Entity(5, 10, "B"), Entity(6, 16, "C")]
    assert to_word_spans(words, entities) == [(0, 1, "A"), (1, 2, "C")]


def test_an_entity_without_a_word_has_no_span() -> None:
    assert to_word_spans(segment("a   b"), [Entity(1, 3, "X")]) == []
    assert to_word_spans([], [Entity(0, 3, "X")]) == []
