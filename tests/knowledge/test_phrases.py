"""Phrases by hash against plain dictionaries of strings."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.knowledge.phrases import BREAK, PhraseHashes, Phrases
from retrieveall.knowledge.stems import stem, stem_sizes
from retrieveall.knowledge.words import WordTable, hash_words, terminate

words = st.text(st.sampled_from("abÄ北가힣1.-\u0301\U0001f600"), min_size=1, max_size=6)
phrases = st.lists(st.lists(words, min_size=1, max_size=4).map(BREAK.join), max_size=12)
spelled = st.lists(st.lists(words, max_size=3, unique=True), max_size=6)


@settings(max_examples=200, deadline=None)
@given(phrases, spelled)
def test_every_occurrence_in_every_spelling_is_found_once(keys: list[str], text: list[list[str]]) -> None:
    if keys:  # so that something is found
        text = [*text, *([word] for word in keys[-1].split(BREAK))]
    expected = []
    paths = [(first, first + 1, word) for first, some in enumerate(text) for word in some]
    while paths:
        expected += [
            (first, last, [number for number, key in enumerate(keys) if key == path])
            for first, last, path in paths
            if path in keys
        ]
        paths = [
            (first, last + 1, path + BREAK + word)
            for first, last, path in paths
            if last < len(text)
            for word in text[last]
        ]
    table = Phrases.of(keys)
    assert sorted(table.find(text)) == sorted(expected)
    assert all(number in table.numbers(key) for number, key in enumerate(keys))
    assert table.numbers("unknown") == []


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=12))
def test_stems_of_a_table_are_those_of_its_words(some: list[str]) -> None:
    table = WordTable(terminate(some))
    assert stem_sizes(table).tolist() == [len(stem(word)) for word in some]
    assert table.hashes(stem_sizes(table)).tolist() == hash_words([stem(word) for word in some]).tolist()


@given(st.lists(words, min_size=2, max_size=30, unique=True))
def test_different_words_have_different_hashes(some: list[str]) -> None:
    assert len(set(hash_words(some).tolist())) == len(some)


def test_numbers_run_through_several_tables() -> None:
    parts = [["Rom", "Rom" + BREAK + "an"], [], ["Rom"]]
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    table = Phrases(PhraseHashes.of(WordTable(terminate(some)), n) for n, some in zip(firsts, parts, strict=False))
    assert sorted(table.find([["Rom"], ["an"]])) == [(0, 1, [0, 2]), (0, 2, [1])]
    assert list(Phrases([]).find([["Rom"]])) == []


def test_hashes_are_the_same_in_every_process() -> None:
    program = "from retrieveall.knowledge.words import hash_words; print(hash_words(['Ulm', '北京']).tolist())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(hash_words(["Ulm", "北京"]).tolist())
