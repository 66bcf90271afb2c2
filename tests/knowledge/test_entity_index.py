from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from ahocorasick_rs import AhoCorasick, MatchKind
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.data.segmentation import segment
from retrieveall.knowledge.entities import EntityIndex
from retrieveall.knowledge.mentions import count_mentions
from retrieveall.types import Entity, KnownEntity, Sentence


def tagged(marked: str, language: str = "de", id: str = "") -> Sentence:
    """A sentence from "Er lebt in [LOC Köln] ." """
    text, entities = "", []
    for piece in marked.replace("[", "\0[").replace("]", "\0").split("\0"):
        if piece.startswith("["):
            label, name = piece[1:].split(" ", 1)
            entities.append(Entity(len(text), len(text) + len(name), label, name))
            piece = name
        text += piece
    return Sentence(text, tuple(entities), language, id)


def index_of(*sentences: Sentence) -> EntityIndex:
    by_language: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        by_language.setdefault(sentence.language or "", []).append(sentence)
    return EntityIndex({language: count_mentions(some) for language, some in by_language.items()})


def spans(known: Sequence[KnownEntity]) -> list[tuple[int, int]]:
    return [(each.start, each.end) for each in known]


def test_counts_are_per_language_and_label() -> None:
    index = index_of(
        tagged("[LOC Paris] und [LOC Paris]"),
        tagged("[PER Paris] lacht"),
        tagged("[LOC Paris] est belle", "fr"),
    )
    (known,) = index.lookup("In Paris regnet es")
    assert known == KnownEntity(3, 8, "Paris", {"de": {"LOC": 2, "PER": 1}, "fr": {"LOC": 1}}, 1.0)
    assert known.label == "LOC"
    (german,) = index.lookup("In Paris regnet es", languages=["de"])
    assert german.counts == {"de": {"LOC": 2, "PER": 1}}


@pytest.mark.parametrize("text", ["Liga (Chile) 2", "Liga ( Chile ) 2", "Liga\n(  Chile\u3000)"])
def test_spacing_does_not_matter_and_offsets_are_those_of_the_text(text: str) -> None:
    (known,) = index_of(tagged("[LOC ( Chile )] gewinnt")).lookup(text)
    assert text[known.start : known.end] == known.surface
    assert known.surface.replace(" ", "").replace("\u3000", "") == "(Chile)"
    assert known.similarity == 1.0


def test_matches_begin_and_end_at_words() -> None:
    index = index_of(tagged("[LOC Rom] ruft"), tagged("在[LOC 北京]。", "zh"))
    assert index.lookup("Romantik und Astrom", near_matches=False) == []
    assert spans(index.lookup("我爱北京城")) == [(2, 4)]


def test_offsets_survive_emoji_and_folding() -> None:
    index = index_of(tagged("in [LOC Straße] da"), tagged("[PER İnan] kam"))
    text = "👩‍👩‍👧 STRASSE, e\u0301 Straße İnan"
    found = index.lookup(text)
    assert [(text[k.start : k.end], k.surface, k.similarity) for k in found] == [
        ("STRASSE", "Straße", 0.95),
        ("Straße", "Straße", 1.0),
        ("İnan", "İnan", 1.0),
    ]


def test_the_exact_case_is_preferred() -> None:
    index = index_of(tagged("[ORG US] Army"), tagged("[LOC us] da"))
    assert [k.label for k in index.lookup("US us Us")[:2]] == ["ORG", "LOC"]


def test_common_words_and_bare_punctuation_are_no_names() -> None:
    index = index_of(
        tagged("[ORG Die] spielen"),
        *(tagged("die Bahn kommt", "de", str(i)) for i in range(4)),
        tagged("[PER ' ''] ja"),
    )
    assert index.lookup("Die ' '' kommt") == []
    rare = index_of(tagged("[ORG Die] spielen"), *(tagged("die Bahn kommt") for _ in range(3)))
    assert spans(rare.lookup("Die kommt")) == [(0, 3)]


def test_words_common_in_one_language_are_no_names_from_another() -> None:
    index = index_of(tagged("[PER Die] canta", "es"), *(tagged("die Bahn kommt") for _ in range(4)))
    assert index.lookup("die") == []
    assert spans(index.lookup("Die", languages=["es"])) == [(0, 3)]


@pytest.mark.parametrize(
    ("training", "text", "surface"),
    [
        (tagged("в [LOC Москва] .", "ru"), "Он жил в Москве .", "Москва"),
        (tagged("в [LOC Нижний Новгород] .", "ru"), "в Нижнем Новгороде .", "Нижний Новгород"),
        (tagged("[LOC 서울] 시", "ko"), "서울에서 만난", "서울"),
        (tagged("[LOC Hamburg] liegt"), "Hamburgs Hafen", "Hamburg"),
    ],
)
def test_inflected_forms_are_near(training: Sentence, text: str, surface: str) -> None:
    index = index_of(training)
    (known,) = index.lookup(text)
    assert known.surface == surface
    assert 0.5 < known.similarity < 1
    assert text[known.start : known.end] != surface
    assert index.lookup(text, near_matches=False) == []


def test_a_single_word_with_a_long_ending_is_another_name() -> None:
    index = index_of(tagged("[LOC Roma] ruft"), tagged("[LOC Nizhny Novgorod] liegt"))
    assert index.lookup("Romance") == []
    assert spans(index.lookup("Romas")) == [(0, 5)]
    assert spans(index.lookup("Nizhnym Novgorodes")) == [(0, 18)]


def test_words_of_longer_mentions_are_partial_matches() -> None:
    index = index_of(
        tagged("[PER Titta Ruffo] singt"), tagged("[PER Anna Ruffo] kam"), tagged("[ORG Ruffo AG] zahlt", "fr")
    )
    text = "Bruno Ruffo da"
    assert index.lookup(text) == []
    (known,) = index.lookup(text, partial_matches=True)
    assert (known.start, known.end, known.surface, known.partial, known.inside) == (6, 11, "Anna Ruffo", True, 3)
    assert known.counts == {"de": {"PER": 2}, "fr": {"ORG": 1}}
    assert known.label == "PER"
    assert index.lookup("ruffo R", partial_matches=True) == []  # the same case, and more than a letter


def test_a_name_that_mostly_stands_in_longer_ones_is_a_partial_match() -> None:
    alone = tagged("[LOC Hearst] liegt", id="0")
    longer = [tagged(f"[PER {name} Hearst] kam", id=name) for name in ("Anna", "Bert", "Carl", "Dora", "Emil")]
    (part,) = index_of(alone, *longer).lookup("Hearst", partial_matches=True)
    assert part == KnownEntity(0, 6, "Anna Hearst", {"de": {"LOC": 1, "PER": 5}}, 1.0, 5, True)
    (exact,) = index_of(alone, *longer[:4]).lookup("Hearst", partial_matches=True)
    assert exact == KnownEntity(0, 6, "Hearst", {"de": {"LOC": 1}}, 1.0, 4, False)
    (less,) = index_of(alone, *longer).lookup("Hearst", partial_matches=True, exclude=longer[:1])
    assert less == exact


def test_common_words_inside_names_are_no_partial_matches() -> None:
    seen = tagged("[ORG Bank von Rom] zahlt")
    often = [tagged("er kommt von dort", id=str(i)) for i in range(2)]
    assert spans(index_of(seen, *often).lookup("von Bank", partial_matches=True)) == [(4, 8)]


def test_a_match_knows_how_often_its_words_are_no_mention() -> None:
    seen = tagged("[LOC Bar] und [LOC Bar le Duc]", id="0")
    often = [tagged("er kommt zur Bar le Duc", id=str(i)) for i in range(1, 3)]
    index = index_of(seen, tagged("[LOC Pont du Duc]", id="3"), *often)
    assert [(known.surface, known.outside) for known in index.lookup("Bar le Duc")] == [("Bar le Duc", 2)]
    assert [(known.surface, known.outside) for known in index.lookup("zur Bar")] == [("Bar", 2)]
    (part,) = index.lookup("Duc", partial_matches=True)
    assert (part.surface, part.partial, part.outside) == ("Bar le Duc", True, 2)
    (less,) = index.lookup("Bar le Duc", exclude=often[:1])
    assert less.outside == 1
    (none_left,) = index.lookup("Bar le Duc", exclude=[*often, tagged("die Bar le Duc schließt", id="never in")])
    assert (none_left.outside, none_left.mention_share) == (0, 1.0)


def test_beginnings_and_ends_of_names_written_without_spaces_are_partial_matches() -> None:
    index = index_of(
        tagged("[ORG 東京大学] は", "ja"), tagged("[ORG 京都大学] は", "ja"), tagged("[LOC 大阪駅前] は", "ja")
    )
    (known,) = index.lookup("北陸大学", partial_matches=True)
    assert (known.start, known.end, known.label, known.partial) == (2, 4, "ORG", True)
    assert index.lookup("駅前", partial_matches=True) == []  # once may be chance


@pytest.mark.parametrize("text", ["Mark", "Markierungen", "hamburgs Hafen", "1995 und 199", "Hammer", "北海"])
def test_other_words_are_not_near(text: str) -> None:
    index = index_of(tagged("[LOC Hamburg] [PER Marke] [ORG 1994] [LOC 北京]"))
    assert [k.surface for k in index.lookup(text) if k.surface not in text] in ([], ["Marke"])
    assert "Hamburg" not in [k.surface for k in index.lookup(text)]


def test_without_the_sentence_the_shorter_surface_inside_appears() -> None:
    long = tagged("Die [ORG Universität Hamburg] lehrt", id="1")
    short = tagged("Er lebt in [LOC Hamburg] .", id="2")
    index = index_of(long, short, tagged("[LOC Hamburg] ruft", id="3"))
    (whole,) = index.lookup(long.text)
    assert whole.surface == "Universität Hamburg"
    (inner,) = index.lookup(long.text, exclude=[long])
    assert (inner.surface, inner.counts) == ("Hamburg", {"de": {"LOC": 2}})
    (less,) = index.lookup(short.text, exclude=[short])
    assert less.counts == {"de": {"LOC": 1}}


_WORDS = [
    "Rom",
    "rom",
    "Romes",
    "Neu",
    "Stadt",
    "Stadts",
    "Stadte",
    "北",
    "京",
    "(",
    ".",
    "는",
    "서울",
    "서울는",
]


@st.composite
def corpus(draw: st.DrawFn) -> list[Sentence]:
    sentences = []
    for number in range(draw(st.integers(1, 9))):
        words = draw(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=7))
        text, entities, position = " ".join(words), [], 0
        starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
        while position < len(words):
            size = draw(st.integers(0, 3))
            if size:
                last = min(position + size, len(words)) - 1
                end = starts[last] + len(words[last])
                label = draw(st.sampled_from(["LOC", "PER"]))
                entities.append(Entity(starts[position], end, label, text[starts[position] : end]))
            position += max(size, 1)
        sentences.append(Sentence(text, tuple(entities), draw(st.sampled_from(["de", "ko"])), str(number)))
    return sentences


@settings(max_examples=150, deadline=None)
@given(corpus(), st.data())
def test_excluding_equals_building_without(sentences: list[Sentence], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, len(sentences) - 1), max_size=3))
    removed = [sentences[i] for i in sorted(gone)]
    rest = [sentence for i, sentence in enumerate(sentences) if i not in gone]
    whole, rebuilt = index_of(*sentences), index_of(*rest)
    for sentence in sentences:
        for near, partial in itertools.product((True, False), repeat=2):
            found = whole.lookup(sentence.text, exclude=removed, near_matches=near, partial_matches=partial)
            assert found == rebuilt.lookup(sentence.text, near_matches=near, partial_matches=partial)


@settings(max_examples=100, deadline=None)
@given(corpus(), st.sampled_from([["de"], ["ko"], []]))
def test_a_language_filter_equals_building_with_those(sentences: list[Sentence], languages: list[str]) -> None:
    part = index_of(*(sentence for sentence in sentences if sentence.language in languages))
    whole = index_of(*sentences)
    for sentence in sentences:
        for near, partial in itertools.product((True, False), repeat=2):
            filtered = whole.lookup(sentence.text, languages=languages, near_matches=near, partial_matches=partial)
            assert filtered == part.lookup(sentence.text, near_matches=near, partial_matches=partial)


def test_an_excluded_mention_does_not_hide_one_that_differs_in_its_ending() -> None:
    gone = tagged("[LOC 서울] 시", "ko", "1")
    index = index_of(gone, tagged("[LOC 서울는] 시", "ko", "2"))
    (known,) = index.lookup("서울", exclude=[gone])
    assert (known.surface, known.similarity) == ("서울는", 0.8)


def test_exact_matches_equal_those_of_aho_corasick() -> None:
    choose = random.Random(5)
    words = [f"w{i}" for i in range(12)] + list("北京大学")
    surfaces = {" ".join(choose.choices(words, k=choose.randint(1, 4))) for _ in range(60)}
    index = index_of(*(tagged(f"[LOC {surface}]") for surface in surfaces))

    def wrapped(text: str) -> str:
        # A mark on both sides of each word: what ends one match must not be needed to begin the next.
        return "".join(f"<{word.text}>" for word in segment(text))

    automaton = AhoCorasick([wrapped(surface) for surface in sorted(surfaces)], matchkind=MatchKind.LeftmostLongest)
    for _ in range(300):
        text = " ".join(choose.choices(words, k=30))
        found = [wrapped(known.surface) for known in index.lookup(text, near_matches=False)]
        assert found == automaton.find_matches_as_strings(wrapped(text))
