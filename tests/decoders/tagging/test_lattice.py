"""Viterbi and span probabilities against an enumeration of all well-formed sequences."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.decoders.tagging import OUTSIDE, TagSet, decode_batch

TAGS = TagSet(("PER", "LOC"))


def follows(before: str, after: str) -> bool:
    """Whether one tag may follow another in BIOES."""
    if before[0] in "OES":
        return after[0] in "OBS"
    return after[0] in "IE" and after[2:] == before[2:]


def well_formed(tags: TagSet, path: tuple[int, ...]) -> bool:
    names = ["O", *(tags.tags[tag] for tag in path), "O"]
    return all(follows(before, after) for before, after in itertools.pairwise(names))


def lettered(spans: list[tuple[int, int, str]], letters: np.ndarray) -> bool:
    return all(letters[start:end].any() for start, end, _ in spans)


def enumerate_all(tags: TagSet, scores: np.ndarray, letters: np.ndarray) -> tuple[list[tuple[int, int, str]], dict]:
    """The spans of the best sequence, and the probability of every span, by brute force."""
    weights = {
        path: float(np.exp(sum(scores[t, tag] for t, tag in enumerate(path))))
        for path in itertools.product(range(len(tags)), repeat=len(scores))
        if well_formed(tags, path) and lettered(tags.decode(path), letters)
    }
    total = sum(weights.values())
    spans: dict[tuple[int, int, str], float] = {}
    for path, weight in weights.items():
        for span in tags.decode(path):
            spans[span] = spans.get(span, 0.0) + weight / total
    return tags.decode(max(weights, key=weights.__getitem__)), spans


def random_scores(seed: int, words: int, tags: TagSet = TAGS, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (words, len(tags))).astype(np.float32)


@pytest.mark.parametrize("words", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_best_spans_and_their_probabilities_are_those_of_the_enumeration(words: int, seed: int) -> None:
    scores = random_scores(seed, words)
    best, probabilities = enumerate_all(TAGS, scores, np.ones(words, dtype=bool))
    [found] = decode_batch(TAGS, [scores])
    assert [span[:3] for span in found] == best
    for start, end, label, probability in found:
        assert probability == pytest.approx(probabilities[start, end, label], rel=1e-6)


@pytest.mark.parametrize("letters", itertools.product((False, True), repeat=4))
@pytest.mark.parametrize("seed", range(4))
def test_every_span_holds_a_letter(letters: tuple[bool, ...], seed: int) -> None:
    scores, flags = random_scores(seed, 4), np.array(letters)
    scores[:, 0] -= 4  # few words outside of spans
    best, probabilities = enumerate_all(TAGS, scores, flags)
    # In a batch with a longer sentence, so that it is padded.
    found, _ = decode_batch(TAGS, [scores, random_scores(seed, 7)], [flags, np.zeros(7, dtype=bool)])
    assert [span[:3] for span in found] == best
    for start, end, label, probability in found:
        assert probability == pytest.approx(probabilities[start, end, label], rel=1e-6)


def test_a_batch_of_mixed_lengths_gives_what_each_sentence_gives_alone() -> None:
    scores = [random_scores(seed, words) for seed, words in enumerate([5, 0, 1, 30, 2, 2, 0, 17, 1])]
    together = decode_batch(TAGS, scores)
    assert together[1] == together[6] == []
    for rows, found in zip(scores, together, strict=True):
        [alone] = decode_batch(TAGS, [rows])
        assert [span[:3] for span in found] == [span[:3] for span in alone]
        assert [span[3] for span in found] == pytest.approx([span[3] for span in alone], rel=1e-9)


def test_a_constant_a_word_changes_nothing() -> None:
    scores = random_scores(3, 9).astype(np.float64)
    [plain] = decode_batch(TAGS, [scores])
    [shifted] = decode_batch(TAGS, [scores + np.arange(9)[:, None] * 50])
    assert [span[:3] for span in plain] == [span[:3] for span in shifted]
    assert [span[3] for span in plain] == pytest.approx([span[3] for span in shifted], rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=6), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 1.0, 1e4]))
def test_spans_are_always_ordered_disjoint_and_inside(lengths: list[int], seed: int, spread: float) -> None:
    scores = [random_scores(seed + i, words, spread=spread) for i, words in enumerate(lengths)]
    for rows, spans in zip(scores, decode_batch(TAGS, scores), strict=True):
        position = 0
        for start, end, label, probability in spans:
            assert position <= start < end <= len(rows)
            assert label in TAGS.labels
            assert 0.0 <= probability <= 1.0
            position = end


def test_a_certain_sequence_is_found_with_probability_one() -> None:
    gold = [(0, 2, "PER"), (2, 3, "LOC"), (4, 7, "LOC")]
    scores = np.full((8, len(TAGS)), -1e4)
    scores[np.arange(8), TAGS.encode(gold, 8)] = 0.0
    [found] = decode_batch(TAGS, [scores])
    assert [span[:3] for span in found] == gold
    assert [span[3] for span in found] == pytest.approx([1.0] * 3)


def test_512_labels_need_no_table_of_transitions() -> None:
    tags = TagSet(tuple(f"L{i}" for i in range(512)))
    scores = [random_scores(i, 20, tags) for i in range(8)]
    begin = time.perf_counter()
    found = decode_batch(tags, scores)
    assert time.perf_counter() - begin < 20  # 0.1 s; a table of 2,049 x 2,049 tags for each word took minutes
    assert all(spans for spans in found)


class TestTagSet:
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(TAGS.labels)), max_size=6))
    def test_encode_then_decode_is_the_identity(self, pieces: list[tuple[int, int, str]]) -> None:
        spans, position = [], 0
        for gap, length, label in pieces:
            spans.append((position + gap, position + gap + length, label))
            position += gap + length
        assert TAGS.decode(TAGS.encode(spans, position + 1)) == spans

    def test_columns_agree_with_names(self) -> None:
        for position in "BIES":
            assert [TAGS.tags[i] for i in TAGS.columns(position)] == [f"{position}-{label}" for label in TAGS.labels]
            assert [TAGS.index(position, label) for label in TAGS.labels] == TAGS.columns(position).tolist()
        assert TAGS.tags[OUTSIDE] == "O"
