"""Windows over long texts: what is kept is the text, once and in order; sizes, costs and time are bounded."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.data import find_borders, segment
from retrieveall.stages.window import Cut, cut_windows


def windows_of(text: str, size: int, overlap: int, few: int | None = None) -> list[Cut]:
    words = segment(text)
    return cut_windows(len(words), size, overlap, few=few, borders=find_borders(text, words))


TEXTS = st.text(st.sampled_from('aé北 .!。"\n'), max_size=200)


@given(TEXTS, st.integers(4, 30), st.data())
def test_kept_parts_partition_the_words(text: str, size: int, data: st.DataObject) -> None:
    words = segment(text)
    overlap = data.draw(st.integers(0, size // 2))
    windows = windows_of(text, size, overlap, data.draw(st.none() | st.integers(1, 40)))
    position = 0
    for window in windows:
        assert window.keep_start == position < window.keep_end
        assert 0 <= window.start <= window.keep_start
        assert window.keep_end <= window.end <= len(words)
        assert window.end - window.start <= size
        assert window.keep_start - window.start <= overlap
        position = window.keep_end
    assert position == len(words)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(8, 60), st.integers(0, 4))
def test_windows_keep_to_a_budget_of_tokens(costs: list[int], budget: int, overlap: int) -> None:
    text = "x " * len(costs)
    words = segment(text)
    position = 0
    for window in cut_windows(len(words), 8, overlap, costs=costs, budget=budget):
        cost = sum(costs[window.start : window.end])
        assert cost <= budget or (
            window.end == window.keep_start + 1 and cost - costs[window.keep_start] <= budget // 4
        )
        assert window.keep_start == position
        position = window.keep_end
    assert position == len(costs)


def test_a_text_that_fits_is_one_window() -> None:
    text = "One. Two. Three."
    assert windows_of(text, 6, 2) == [Cut(0, 6, 0, 6)]
    assert windows_of("", 6, 2) == []


def test_cuts_at_sentence_ends_need_no_overlap() -> None:
    text = "Somebody came along. " * 10
    windows = windows_of(text, 10, 4)
    assert windows == [Cut(i, i + 8, i, i + 8) for i in range(0, 40, 8)]


@pytest.mark.parametrize("join", [" ", "\n", "\n\n"])
def test_a_window_of_several_sentences_has_few_words(join: str) -> None:
    text = join.join(["Somebody came along."] * 10)
    assert windows_of(text, 100, 4, few=9) == [Cut(i, i + 8, i, i + 8) for i in range(0, 40, 8)]


def test_no_window_goes_over_an_end() -> None:
    cuts = cut_windows(12, 100, 4, borders=[3, 6, 9], ends=[6])
    assert cuts == [Cut(0, 6, 0, 6), Cut(6, 12, 6, 12)]
    assert cut_windows(12, 100, 4, few=4, borders=[3, 6, 9], ends=[6]) == [
        Cut(i, i + 3, i, i + 3) for i in (0, 3, 6, 9)
    ]


def test_a_sentence_of_more_words_is_one_window() -> None:
    long = "Somebody" + " came" * 20 + ". "
    assert windows_of("He came. " + long + "He went. She went.", 100, 4, few=9) == [
        Cut(0, 3, 0, 3),
        Cut(3, 25, 3, 25),
        Cut(25, 31, 25, 31),
    ]
    assert windows_of(long * 2, 100, 4, few=1) == [Cut(0, 22, 0, 22), Cut(22, 44, 22, 44)]


@pytest.mark.parametrize("ending", ["。", "!", "...?", "wahr.“ ", "said.) ", "line\n\n"])
def test_what_ends_a_sentence(ending: str) -> None:
    text = "Word " * 5 + ending + " Word" * 9
    words = segment(text)
    stop = next(window.keep_end for window in windows_of(text, 11, 4))
    assert text[: words[stop].start].strip().endswith(ending.strip())


@pytest.mark.parametrize("inside", ["St.", "J.", "Dr."])
def test_an_abbreviation_ends_no_sentence(inside: str) -> None:
    text = "Word " * 6 + inside + " Word" * 9
    assert windows_of(text, 10, 4)[0] == Cut(0, 10, 0, 8)


def test_without_sentence_ends_windows_overlap() -> None:
    text = "x " * 50
    windows = windows_of(text, 20, 6)
    assert windows[:2] == [Cut(0, 20, 0, 17), Cut(11, 31, 17, 28)]
    for window in windows[:-1]:
        assert window.end - window.keep_end == 3  # read again on the right: half of the overlap


@pytest.mark.parametrize("text", ["a ", "北", '"', ". ", "\n\n.", "'a "])
def test_time_is_linear(text: str) -> None:
    def seconds(times: int) -> float:
        words = segment(text * times)
        borders = find_borders(text * times, words)
        best = float("inf")
        for _ in range(5):
            begin = time.process_time()
            cut_windows(len(words), 32, 8, borders=borders, costs=[1] * len(words), budget=64)
            best = min(best, time.process_time() - begin)
        return best

    # Quadratic time would be sixteen times as long; the factor of two is for a busy machine.
    assert seconds(80_000) < 8 * max(seconds(20_000), 0.03)
