"""Span scores against seqeval, an independent implementation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from retrieveall.data import ill_formed, spans_to_tags, tags_to_spans
from retrieveall.errors import InputError
from retrieveall.evaluation import Counts, SpanScores, score_spans, widen
from retrieveall.types import Entity

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def pairs_of(tags: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Corpora of 1 to 4 sentences, gold and predicted tags of each, of equal length."""
    pair = st.tuples(tags, tags).map(lambda two: tuple(one[: min(map(len, two))] for one in two))
    return st.lists(pair.filter(lambda two: len(two[0]) > 0), min_size=1, max_size=4)


def well_formed(tags: list[str]) -> list[str]:
    return spans_to_tags(tags_to_spans(tags, "iob2"), len(tags))


def entities(tags: list[str]) -> list[Entity]:
    """Words of three characters with a blank between them."""
    return [Entity(4 * first, 4 * last - 1, label) for first, last, label in tags_to_spans(tags, "iob2")]


def score(corpus: list[tuple[list[str], list[str]]]) -> SpanScores:
    return score_spans([entities(gold) for gold, _ in corpus], [entities(guess) for _, guess in corpus])


def by_seqeval(corpus: list[tuple[list[str], list[str]]], **mode: object) -> dict[str, dict[str, float]]:
    report = classification_report(
        [gold for gold, _ in corpus],
        [guess for _, guess in corpus],
        output_dict=True,
        zero_division=0,
        **mode,
    )
    return {name: values for name, values in report.items() if name in ("PER", "LOC", "micro avg")}


def assert_equal(scores: SpanScores, reference: dict[str, dict[str, float]]) -> None:
    assert set(scores.by_label) == set(reference) - {"micro avg"}
    for name, expected in reference.items():
        counts = scores.micro if name == "micro avg" else scores.by_label[name]
        assert counts.precision == pytest.approx(expected["precision"])
        assert counts.recall == pytest.approx(expected["recall"])
        assert counts.f1 == pytest.approx(expected["f1-score"])
        assert counts.gold == expected["support"]


def has_entities(corpus: list[tuple[list[str], list[str]]]) -> bool:
    return any(entities(tags) for pair in corpus for tags in pair)  # seqeval fails on a corpus without any


@settings(max_examples=60, deadline=None)
@given(pairs_of(st.lists(st.sampled_from(TAGS), max_size=9)).filter(has_entities))
def test_any_tags_score_as_in_seqevals_default_mode(corpus: list[tuple[list[str], list[str]]]) -> None:
    assert_equal(score(corpus), by_seqeval(corpus))


@settings(max_examples=60, deadline=None)
@given(pairs_of(st.lists(st.sampled_from(TAGS), max_size=9)))
def test_well_formed_tags_score_as_in_seqevals_strict_mode(corpus: list[tuple[list[str], list[str]]]) -> None:
    corpus = [(well_formed(gold), well_formed(guess)) for gold, guess in corpus]
    if not any("B" in tag for gold, _ in corpus for tag in gold):
        corpus.append((["B-PER"], ["O"]))  # strict mode fails on gold without entities
    assert not any(ill_formed(tags, "iob2") for pair in corpus for tags in pair)
    assert_equal(score(corpus), by_seqeval(corpus, mode="strict", scheme=IOB2))


def test_the_modes_differ_on_ill_formed_tags_and_ours_is_the_default() -> None:
    corpus = [(["B-PER", "I-PER"], ["I-PER", "I-PER"])]
    assert score(corpus).micro.f1 == by_seqeval(corpus)["micro avg"]["f1-score"] == 1.0
    strict = by_seqeval(corpus, mode="strict", scheme=IOB2)
    assert strict["micro avg"]["f1-score"] == 0.0


@settings(max_examples=50, deadline=None)
@given(pairs_of(st.lists(st.sampled_from(TAGS), max_size=9)), st.integers(0, 4))
def test_scores_of_parts_add_up(corpus: list[tuple[list[str], list[str]]], cut: int) -> None:
    assert score(corpus[:cut]) + score(corpus[cut:]) == score(corpus)


def test_start_end_and_label_must_all_be_right() -> None:
    gold = [Entity(0, 3, "PER")]
    wrong = [Entity(0, 3, "LOC"), Entity(0, 4, "PER"), Entity(1, 3, "PER")]
    assert score_spans([gold], [wrong]).micro == Counts(0, 3, 1)
    assert score_spans([gold], [[Entity(0, 3, "PER", "text", 0.5)]]).micro == Counts(1, 1, 1)


def test_entities_of_one_text_do_not_count_for_another() -> None:
    ada = [Entity(0, 3, "PER")]
    assert score_spans([ada, []], [[], ada]).micro == Counts(0, 1, 1)


def test_a_span_predicted_twice_counts_once() -> None:
    ada = Entity(0, 3, "PER")
    assert score_spans([[ada]], [[ada, Entity(0, 3, "PER", score=0.1)]]).micro == Counts(1, 1, 1)


def test_nothing_to_find_and_nothing_found_is_zero_not_an_error() -> None:
    empty = score_spans([[]], [[]]).micro
    assert (empty.precision, empty.recall, empty.f1) == (0.0, 0.0, 0.0)


def test_a_missing_prediction_is_an_error() -> None:
    with pytest.raises(InputError, match="one collection per text"):
        score_spans([[], []], [[]])


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 2, "LOC"), (0, 4, "LOC")),  # 서울 of 서울에서
        ((1, 3, "LOC"), (0, 4, "LOC")),
        ((2, 6, "LOC"), (0, 8, "LOC")),  # of two tokens
        ((0, 8, "LOC"), (0, 8, "LOC")),
        ((4, 5, "LOC"), (4, 5, "LOC")),  # the blank between two tokens
        ((3, 5, "LOC"), (0, 5, "LOC")),  # a token and the blank after it
        ((8, 9, "LOC"), (8, 9, "LOC")),
        ((9, 12, "LOC"), (9, 12, "LOC")),  # behind the last token
    ],
)
def test_a_span_grows_to_the_tokens_that_it_touches(span: tuple[int, int, str], expected: tuple[int, int, str]) -> None:
    assert widen([span], [(0, 4), (5, 8)]) == [expected]


SPANS = st.tuples(st.integers(0, 30), st.integers(1, 5)).map(lambda at: (at[0], at[0] + at[1], "PER"))


@given(st.lists(SPANS), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=8))
def test_widening_is_what_comparing_with_every_token_gives(
    spans: list[tuple[int, int, str]], gaps_and_lengths: list[tuple[int, int]]
) -> None:
    tokens, at = [], 0
    for gap, length in gaps_and_lengths:
        tokens.append((at + gap, at + gap + length))
        at += gap + length
    for (start, end, label), found in zip(spans, widen(spans, tokens), strict=True):
        characters = set(range(start, end))
        for token in tokens:
            if characters & set(range(*token)):
                start, end = min(start, token[0]), max(end, token[1])
        assert found == (start, end, label)
    assert widen(widen(spans, tokens), tokens) == widen(spans, tokens)
