"""Characters to words and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.data import segment
from retrieveall.decoding import to_entities, to_word_spans
from retrieveall.types import Entity

TEXTS = st.text(st.sampled_from("ab北か .,-'\u0301\u200d👩🏽ש\n"), max_size=30)


@given(TEXTS, st.data())
def test_word_spans_to_entities_and_back(text: str, data: st.DataObject) -> None:
    words = segment(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = [(a, b, "X", 0.5) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    entities = to_entities(text, words, spans)
    assert [(entity.text, entity.score) for entity in entities] == [(text[e.start : e.end], 0.5) for e in entities]
    assert to_word_spans(words, entities) == [span[:3] for span in spans]


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
