"""Tag schemes against seqeval, an independent implementation, in its default and its strict mode."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from retrieveall.data.schemes import (
    SCHEMES,
    Scheme,
    Span,
    detect_scheme,
    ill_formed,
    spans_to_tags,
    split_tag,
    tags_to_spans,
)
from retrieveall.errors import InputError

LABELS = ("PER", "LOC")
STRICT = {"iob2": IOB2, "iob1": IOB1, "bioes": IOBES}


def tag_lists(prefixes: str) -> st.SearchStrategy[list[str]]:
    tags = ["O"] + [f"{prefix}-{label}" for prefix in prefixes for label in LABELS]
    return st.lists(st.sampled_from(tags), max_size=12)


@st.composite
def span_lists(draw: st.DrawFn) -> tuple[list[Span], int]:
    spans: list[Span] = []
    position = 0
    for gap, length, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(LABELS)), max_size=5)
    ):
        spans.append((position + gap, position + gap + length, label))
        position += gap + length
    return spans, position + draw(st.integers(0, 2))


def by_seqeval(tags: list[str]) -> list[Span]:
    return [(start, end + 1, label) for label, start, end in get_entities(list(tags))]


def strictly(tags: list[str], scheme: type) -> list[Span]:
    return [(entity.start, entity.end, entity.tag) for entity in Entities([tags], scheme).entities[0]]


@settings(max_examples=120, deadline=None)
@given(tag_lists("BI"))
def test_iob_spans_equal_seqeval(tags: list[str]) -> None:
    assert tags_to_spans(tags, "iob2") == tags_to_spans(tags, "iob1") == by_seqeval(tags)


@settings(max_examples=120, deadline=None)
@given(tag_lists("BIES"))
def test_bioes_spans_equal_seqeval(tags: list[str]) -> None:
    assert tags_to_spans(tags, "bioes") == by_seqeval(tags)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(("iob2", "bioes")), st.data())
def test_well_formed_is_what_seqeval_reads_strictly(scheme: Scheme, data: st.DataObject) -> None:
    tags = data.draw(tag_lists("BI" if scheme == "iob2" else "BIES"))
    strict = strictly(tags, STRICT[scheme])
    well_formed = spans_to_tags(strict, len(tags), scheme) == tags
    assert (ill_formed(tags, scheme) == []) == well_formed


@settings(max_examples=120, deadline=None)
@given(span_lists(), st.sampled_from(SCHEMES))
def test_spans_survive_the_round_trip(case: tuple[list[Span], int], scheme: Scheme) -> None:
    spans, length = case
    tags = spans_to_tags(spans, length, scheme)
    assert tags_to_spans(tags, scheme) == spans
    assert ill_formed(tags, scheme) == []
    if scheme != "iob1":  # seqeval's strict IOB1 starts no span at a B- after another label
        assert strictly(tags, STRICT[scheme]) == spans


def test_bilou_is_bioes_with_other_letters() -> None:
    tags = ["B-PER", "I-PER", "L-PER", "O", "U-LOC"]
    assert tags_to_spans(tags) == strictly(tags, BILOU) == [(0, 3, "PER"), (4, 5, "LOC")]
    assert ill_formed(tags, "bioes") == []


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("iob2", ["I-PER", "I-PER", "O", "I-LOC"], [0, 3]),
        ("iob2", ["B-PER", "I-LOC"], [1]),
        ("iob1", ["I-PER", "B-PER", "O", "B-LOC"], [3]),
        ("bioes", ["B-PER", "O", "E-PER", "S-LOC"], [0, 2]),
        ("bioes", ["B-PER", "I-PER"], [1]),
    ],
)
def test_positions_of_ill_formed_tags(scheme: Scheme, tags: list[str], expected: list[int]) -> None:
    assert ill_formed(tags, scheme) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-PER", "I-PER", "O", "I-LOC"], "iob2"),
        (["O", "I-PER", "B-PER", "O"], "iob1"),
        (["O", "I-PER", "O", "I-LOC", "O", "B-ORG"], "iob1"),  # one B- too many
        (["O", "B-PER", "O", "I-LOC", "O", "B-ORG"], "iob2"),
        (["O", "B-PER", "E-PER"], "bioes"),
        (["U-PER"], "bioes"),
        (["O", "O"], "iob2"),
    ],
)
def test_detection(tags: list[str], expected: Scheme) -> None:
    assert detect_scheme(tags) == expected


@pytest.mark.parametrize(
    "tag", ["", "B", "B-", "X-PER", "PER", "b-PER", "B-a b", "B-O", "B-../x", "I-\ud800", "B-" + "x" * 65]
)
def test_malformed_tags_are_refused(tag: str) -> None:
    with pytest.raises(InputError, match="expected a tag"):
        split_tag(tag)


def test_letters_of_another_scheme_are_refused() -> None:
    with pytest.raises(InputError, match="scheme iob2"):
        tags_to_spans(["S-PER"], "iob2")
    with pytest.raises(InputError, match="out of iob2"):
        ill_formed(["O"], "iob3")  # type: ignore[arg-type]


@pytest.mark.parametrize("spans", [[(0, 0, "A")], [(1, 3, "A")], [(0, 2, "A"), (1, 2, "B")], [(-1, 1, "A")]])
def test_impossible_spans_are_refused(spans: list[Span]) -> None:
    with pytest.raises(InputError, match="without overlap"):
        spans_to_tags(spans, 2)
