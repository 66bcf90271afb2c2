from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import InputError, MissingExtraError
from retrieveall.knowledge.context import ContextIndex, Hit, fit_scale, quantise


def unit_rows(count: int, dimension: int, seed: int) -> np.ndarray:
    # Few different values, so that there are many ties.
    values = np.random.default_rng(seed).integers(-2, 3, (count, dimension)).astype(np.float32)
    values[:, 0] += 3
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def brute_force(
    shards: dict[str, np.ndarray], query: np.ndarray, scale: float, k: int, gone: dict[str, set[int]]
) -> list[Hit]:
    code = quantise(query, scale).astype(np.int64)
    ranked = sorted(
        (-int(code @ row.astype(np.int64)), language, number)
        for language, codes in shards.items()
        for number, row in enumerate(codes)
        if number not in gone.get(language, ())
    )
    return [Hit(language, number, min(-dot / scale**2, 1.0)) for dot, language, number in ranked[:k]]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5, 40, 300]), min_size=1, max_size=3),
    k=st.integers(1, 30),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_search_equals_brute_force_with_ties_and_exclusions(
    sizes: list[int], k: int, seed: int, data: st.DataObject
) -> None:
    scale = 127.0
    shards = {
        name: quantise(unit_rows(size, 4, seed + number), scale)
        for number, (name, size) in enumerate(zip("cab", sizes, strict=False))
    }
    index = ContextIndex(scale)
    for name, codes in shards.items():
        index.add(name, codes)
    queries = unit_rows(5, 4, seed + 10)
    gone = [
        {
            name: data.draw(st.sets(st.integers(0, len(codes) - 1), max_size=20))
            for name, codes in shards.items()
            if len(codes)
        }
        for _ in queries
    ]
    found = index.search(queries, k, exclude=gone)
    assert found == [brute_force(shards, query, scale, k, out) for query, out in zip(queries, gone, strict=True)]


def test_excluding_nearly_everything_still_finds_the_rest() -> None:
    codes = quantise(unit_rows(500, 6, 0), 127.0)
    index = ContextIndex(127.0)
    index.add("de", codes)
    left = [3, 250, 499]
    gone = {"de": set(range(500)) - set(left)}
    (hits,) = index.search(unit_rows(1, 6, 9), 10, exclude=[gone])
    assert sorted(hit.row for hit in hits) == left


def test_a_query_has_the_same_neighbours_in_any_batch() -> None:
    vectors = unit_rows(700, 16, 1)
    scale = fit_scale(vectors)
    index = ContextIndex(scale)
    index.add("de", quantise(vectors[:500], scale))
    index.add("en", quantise(vectors[500:], scale))
    queries = unit_rows(150, 16, 2)
    together = index.search(queries, 7)
    assert together == [index.search(query[None], 7)[0] for query in queries]


def test_languages_filter_equals_an_index_of_those_alone() -> None:
    whole, part = ContextIndex(127.0), ContextIndex(127.0)
    for number, name in enumerate(("de", "en", "fr")):
        codes = quantise(unit_rows(50, 4, number), 127.0)
        whole.add(name, codes)
        if name != "en":
            part.add(name, codes)
    queries = unit_rows(4, 4, 7)
    expected = part.search(queries, 9)
    assert whole.search(queries, 9, languages={"de", "fr"}) == expected
    assert whole.search(queries, 9) != expected


def test_cosines_survive_quantisation() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scale = fit_scale(vectors)
    index = ContextIndex(scale)
    index.add("de", quantise(vectors, scale))
    for query, hits in zip(vectors[:20], index.search(vectors[:20], 200), strict=True):
        assert len(hits) == 200
        np.testing.assert_allclose(
            [hit.similarity for hit in hits], [vectors[hit.row] @ query for hit in hits], atol=0.02
        )
        assert all(hit.similarity <= 1 for hit in hits)


def test_large_shards_are_graphs_with_high_recall() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scale = fit_scale(vectors)
    exact, graph = ContextIndex(scale), ContextIndex(scale, approximate_from=1000)
    for index in (exact, graph):
        index.add("de", quantise(vectors, scale))
    queries = vectors[:50]
    same = sum(
        len({hit.row for hit in a} & {hit.row for hit in b})
        for a, b in zip(exact.search(queries, 10), graph.search(queries, 10), strict=True)
    )
    assert same >= 0.95 * 500


def test_graphs_exclude_rows_too() -> None:
    pytest.importorskip("faiss")
    vectors = unit_rows(300, 8, 0)
    graph = ContextIndex(127.0, approximate_from=100)
    graph.add("de", quantise(vectors, 127.0))
    seen, hidden = graph.search(vectors[[7, 7]], 5, exclude=[{}, {"de": [7, 8]}])
    assert {7, 8} & {hit.row for hit in seen}
    assert not {7, 8} & {hit.row for hit in hidden}
    assert len(hidden) == 5


def test_without_faiss_large_shards_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = ContextIndex(127.0, approximate_from=100)
    index.add("de", quantise(unit_rows(99, 8, 0), 127.0))
    with pytest.raises(MissingExtraError, match=r"100 sentences of one language.*pip install 'retrieveall\[faiss\]'"):
        index.add("de", quantise(unit_rows(100, 8, 0), 127.0))


def test_many_equal_sentences_do_not_slow_the_search() -> None:
    """A text without n-grams is equally far from all sentences; ties are broken by row all the same."""
    index = ContextIndex(127.0)
    index.add("de", np.ones((20_000, 8), dtype=np.int8))
    start = time.process_time()
    found = index.search(np.zeros((64, 8), dtype=np.float32), 3)
    assert time.process_time() - start < 1.0
    assert found == [[Hit("de", row, 0.0) for row in range(3)]] * 64


def test_nothing_asked_or_nothing_there() -> None:
    index = ContextIndex(127.0)
    queries = unit_rows(2, 4, 0)
    assert index.search(queries, 5) == [[], []]
    index.add("de", quantise(unit_rows(3, 4, 1), 127.0))
    assert index.search(queries, 0) == [[], []]
    assert index.search(queries[:0], 5) == []
    with pytest.raises(InputError, match="one exclusion a query, 2, got 1"):
        index.search(queries, 5, exclude=[{}])
