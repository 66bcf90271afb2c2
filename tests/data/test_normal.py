"""The normal form against Python's own, and its offsets against clusters found by another way."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieveall.data import NormalText, normalise, normalise_sentence
from retrieveall.types import Entity, Sentence

SPICE = (
    "aeoi" + "\u0301\u0323\u0308\u0327\u3099\u309a\uff9e\uff9f\u0344\u0f73" + "\u00ad\ufeff\u00a0 \n" + "ﬁﬄﷺﹰﵞ"
    "\u1100\u1161\u11a8가각"
    + "ｶﾊﾞﾡￂＡ１！漢\uf900"
    + "\u212b\u2126ÅéΩ\u0958\u09c7\u09be\u1025\u102e"
    + "𝐀ℋℹ²ϵ"
    + "\ud800\0\u200d\ufe0f"
)
ANY = st.text(
    st.one_of(st.sampled_from(SPICE), st.sampled_from(SPICE), st.characters(exclude_categories=())), max_size=14
)


@functools.cache
def joining() -> frozenset[str]:
    """What may compose with the character before it, or change places with it: from the decompositions themselves."""
    found = {"\uff9e", "\uff9f", *map(chr, range(0x1161, 0x1176)), *map(chr, range(0x11A8, 0x11C3))}
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.combining(char):
            found.add(char)
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


def borders(text: str) -> list[int]:
    """Places that nothing composes across, soft hyphens being nothing."""
    found = []
    for place in range(len(text) + 1):
        rest = text[place:].lstrip("\u00ad")
        leading = not text[:place].strip("\ufeff\u00ad")
        if not rest or not (rest[0] in joining() or (leading and place and rest[0] == "\ufeff")):
            found.append(place)
    return found


def test_decomposed_text_is_composed_and_keeps_its_offsets() -> None:
    composed = "José Martínez nació en Málaga"
    decomposed = unicodedata.normalize("NFD", composed)
    normal = normalise(decomposed)
    assert normal.text == composed
    assert normal.source == decomposed
    start = composed.index("Málaga")
    assert decomposed[slice(*normal.span(start, len(composed)))] == unicodedata.normalize("NFD", "Málaga")
    assert normal.text_span(*normal.span(0, 13)) == (0, 13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (unicodedata.normalize("NFD", "서울에서 왔다"), "서울에서 왔다"),
        ("ｶﾞｰﾄﾞﾊﾟｰｸ｢東京｣､｡", "ガードパーク「東京」、。"),
        ("ＮＨＫ２０２４年", "NHK2024年"),
        ("ﾡￂ", "ㄱㅏ"),
        ("ﬁnal oﬃce ﬅ", "final office ſt"),
        ("𝐁𝐞𝐫𝐥𝐢𝐧 ℋ 𝟗", "Berlin H 9"),
        ("ﺍﻟﺴﻼﻡ", "السلام"),
        ("שּׁ", "ש\u05bc\u05c1"),
        ("New\u00a0York\u202f!", "New York !"),
        ("\ufeffHam\u00adburg", "Hamburg"),
        ("e\u00ad\u0301", "é"),
        ("\u00ad\ufeff\u0301", "\u0301"),
        ("a\ufeffb", "a\ufeffb"),
        ("a\ufeff\u0301", "a\ufeff\u0301"),
        ("\ud800\0\udfff", "\ud800\0\udfff"),
        ("", ""),
        ("\u00ad", ""),
    ],
)
def test_what_becomes_of_it(text: str, expected: str) -> None:
    assert normalise(text).text == expected


@pytest.mark.parametrize("text", [*"²½①…™㎏Ⅳㄱ，！（）ℹ𝄞﷼ﹰ㈱㍿ϵ", "👩‍👩‍👧", "क्\u200dष"])
def test_what_keeps_its_meaning_stays(text: str) -> None:
    assert normalise(text) == NormalText(text, text)


def test_every_character_is_kept_or_compatible_and_twice_is_as_once() -> None:
    for char in filter(unicodedata.decomposition, map(chr, range(sys.maxunicode + 1))):
        once = normalise(char).text
        assert normalise(once).text == once
        forms = {unicodedata.normalize(form, char) for form in ("NFC", "NFKC")} | {""}
        assert once in forms or unicodedata.normalize("NFKC", once) in forms


def test_all_canonical_compositions_are_made() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        apart = unicodedata.normalize("NFD", char)
        if apart != char:
            assert normalise(f"x{apart}y").text == unicodedata.normalize("NFC", f"x{apart}y")


@settings(max_examples=500, deadline=None)
@given(ANY)
@example("e\u0323\u00ad\u0301")
@example("\ufeff\u0301\u00ad")
@example("\u0301\u00ad\u0323a\u00ad")
@example("ﷺ\u0301ﬁ\u00ad")
def test_spans_of_whole_clusters_survive_both_ways(text: str) -> None:
    normal = normalise(text)
    places = borders(text)
    for i, start in enumerate(places):
        for end in places[i:]:
            found = normal.text_span(start, end)
            piece = normal.text[slice(*found)]
            # A piece that begins with a byte-order mark would lose it.
            assert normalise("." + text[start:end]).text == "." + piece or not text[:start].strip("\ufeff\u00ad")
            left, right = normal.span(*found)
            if piece:
                assert start <= left < right <= end
                assert not text[start:left].strip("\u00ad\ufeff")
                assert not text[right:end].strip("\u00ad")


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_any_span_is_widened_to_whole_clusters_and_no_further(text: str) -> None:
    normal = normalise(text)
    for start in range(len(normal.text)):
        for end in range(start + 1, len(normal.text) + 1):
            left, right = normal.span(start, end)
            assert 0 <= left < right <= len(text)
            wide = normal.text_span(left, right)
            assert wide[0] <= start < end <= wide[1]
            assert normal.span(*wide) == (left, right)
            assert normalise("." + text[left:right]).text == "." + normal.text[slice(*wide)] or left == 0


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_twice_is_as_once(text: str) -> None:
    once = normalise(text).text
    assert normalise(once) == NormalText(once, once)


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_without_compatibility_characters_it_is_nfc(text: str) -> None:
    plain = "".join(c for c in text if not unicodedata.decomposition(c).startswith("<") and c not in "\u00ad\ufeff")
    assert normalise(plain).text == unicodedata.normalize("NFC", plain)


def test_normal_text_costs_no_tables() -> None:
    for text in ("plain", "Málaga", "서울", "東京"):
        normal = normalise(text)
        assert normal.text is text
        assert normal._changed is None
        assert normal.span(1, 2) == normal.text_span(1, 2) == (1, 2)


def test_it_is_a_value() -> None:
    normal = normalise("e\u0301 ﬁ")
    assert pickle.loads(pickle.dumps(normal)).span(2, 3) == copy.deepcopy(normal).span(2, 3) == (3, 4)
    assert {normal} == {normalise("e\u0301 ﬁ")}


def test_entities_move_along() -> None:
    text = "\ufeffJose\u0301 lebt in Ko\u0308\u00adln ."
    person, town = text.index("J"), text.index("K")
    sentence = Sentence(
        text,
        (Entity(person, person + 5, "PER", text[person : person + 5], 0.5), Entity(town, town + 6, "LOC", "?")),
        "de",
        "1",
    )
    assert normalise_sentence(sentence) == Sentence(
        "José lebt in Köln .", (Entity(0, 4, "PER", "José", 0.5), Entity(13, 17, "LOC", "Köln")), "de", "1"
    )


def test_a_sentence_in_normal_form_is_the_same_object() -> None:
    sentence = Sentence("Köln", (Entity(0, 4, "LOC", "Köln"),))
    assert normalise_sentence(sentence) is sentence


def test_entities_that_meet_inside_of_a_cluster_do_not_overlap() -> None:
    sentence = Sentence("ae\u0301b", (Entity(0, 2, "A"), Entity(2, 3, "B"), Entity(3, 4, "C")))
    assert normalise_sentence(sentence).entities == (Entity(0, 2, "A", "aé"), Entity(2, 3, "C", "b"))


def test_a_mention_of_dropped_characters_alone_is_none() -> None:
    assert normalise_sentence(Sentence("a\u00adb", (Entity(1, 2, "A"),))) == Sentence("ab")


@pytest.mark.parametrize(
    "unit",
    [
        *("\u0301", "\u0301\u0323", "e\u0301\u0323", "\u1100\u1161\u11a8", "\u1161", "\u00ad", "e\u00ad", "\ufeff"),
        *("e" + "\u00ad" * 300 + "\u0301", "\u0344", "\u00a0", "ﷺ", "漢"),
    ],
    ids=ascii,
)
def test_time_is_linear(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            normalise(text)
            best = min(best, time.process_time() - start)
        return best

    # Sixteen times the input: quadratic work would take 256 times as long.
    assert seconds(160_000) < 50 * seconds(10_000) + 0.1
