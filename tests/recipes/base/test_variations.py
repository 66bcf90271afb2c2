"""Whatever form a sentence comes in: exact spans in order, apart from each other, names as they were meant."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from recipes.base.settings import VariationSettings
from recipes.base.variations import CASED, Mentions, Writer, fill, join, map_mentions, word_list
from recipes.base.variations import _same_length as same_length
from retrieveall.errors import DataError
from retrieveall.types import Entity, Sentence

LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")
LABELS = ("PER", "ORG", "LOC")
SHARES = tuple(VariationSettings.model_fields)


def marked(text: str, language: str, **names: str) -> Sentence:
    """A sentence with the names in ``{PER}``, ``{ORG}``, ``{LOC}``."""
    return fill(text, names.__getitem__, language)


SENTENCES = {
    "en": [
        marked("{PER} of {ORG} met her in {LOC}.", "en", PER="Ada Lovelace", ORG="Intel", LOC="New York"),
        marked('He said : "{LOC} is cold" (again)', "en", LOC="Straße"),
    ],
    "es": [marked("¿Vive {PER} en {LOC}?", "es", PER="Juan Pérez", LOC="Madrid")],
    "fr": [marked("{PER} travaille chez {ORG} à {LOC}", "fr", PER="Anne-Marie d'Aix", ORG="Renault", LOC="Ars")],
    "ru": [marked("{PER} живёт в {LOC}.", "ru", PER="Анна Каренина", LOC="Москва")],
    "de": [
        marked("Die {ORG} aus {LOC} – {PER}", "de", ORG="Weiß GmbH", LOC="Groß-Gerau", PER="Karl May"),
        marked("{PER} wohnt in {LOC}", "de", PER="Anna Meier", LOC="Ulm"),
    ],
    "zh": [marked("{PER}在{LOC}的{ORG}工作。", "zh", PER="王小明", LOC="北京", ORG="华为")],
    "ja": [marked("{PER}は{LOC}の{ORG}で働く。", "ja", PER="織田信長", LOC="東京", ORG="京都大学")],
    "ko": [marked("{PER}은 {LOC}에서 {ORG}를 세웠다.", "ko", PER="세종대왕", LOC="서울", ORG="연세대학교")],
}
PLAIN = {"zh": "今天天气很好，我们去散步。", "ja": "今日はとても天気がいい。", "ko": "오늘은 날씨가 아주 좋다."}


def nameless(language: str) -> Sentence:
    return Sentence(PLAIN.get(language, "ça va bien, i said : yes (and no), и всё."), (), language, "none:1")


def settings(**shares: float) -> Any:
    return VariationSettings(**dict.fromkeys(SHARES, 0.0) | shares)


def writer(language: str, seed: int, **shares: float) -> Writer:
    mentions = Mentions()
    for own in SENTENCES.values():
        mentions.add(own)
    for each in LANGUAGES:  # every language has names of every kind
        for label, name in {"ORG": "Alba", "PER": "Mia", "LOC": "Ulm"}.items():
            mentions.of[each][label].append(name)
    others = {each: [*own, nameless(each)] for each, own in SENTENCES.items()}
    return Writer(language, settings(**shares), mentions, others, random.Random(seed))


def check(sentence: Sentence) -> None:
    for entity in sentence.entities:
        assert 0 <= entity.start < entity.end <= len(sentence.text)
        assert sentence.text[entity.start : entity.end] == entity.text
        assert entity.text == entity.text.strip()
        assert entity.label in LABELS
    assert all(left.end <= right.start for left, right in pairwise(sentence.entities)), "in order and apart"


METHODS: dict[str, Callable[[Writer, Sentence], Sentence | None]] = {
    "template": lambda writer, _: writer.template(),
    "names": lambda writer, _: writer.names(),
    "phrase": lambda writer, _: writer.phrase(),
    "fragment": lambda writer, sentence: writer.fragment(sentence),
    "vary": lambda writer, sentence: writer.vary(sentence),
    "swap": lambda writer, sentence: writer._swap(sentence, "ja", 0.7),
    "title": lambda writer, sentence: writer._title(sentence),
    "markup": lambda writer, sentence: writer._markup(sentence),
    "join": lambda writer, sentence: writer._join(sentence),
    "letter": lambda writer, sentence: writer._letter(sentence),
    "emoji": lambda writer, sentence: writer._emoji(sentence),
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("method", METHODS)
def test_spans_are_exact_in_every_form(method: str, language: str) -> None:
    made = set()
    for seed in range(60):
        own = writer(language, seed, **dict.fromkeys(SHARES, 0.5))
        for sentence in [*SENTENCES[language], nameless(language)]:
            found = METHODS[method](own, sentence)
            if found is None:
                assert method == "fragment"
                continue
            check(found)
            assert found.language == language or method == "template"
            assert found.text.strip()
            made.add(found.text)
    assert len(made) > 20 or (method in ("title", "swap", "fragment") and len(made) > 3)


@pytest.mark.parametrize("share", [name for name in SHARES if name != "raw"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_share_alone_changes_some_sentences_and_at_zero_none(language: str, share: str) -> None:
    changed = 0
    for seed in range(30):
        for sentence in SENTENCES[language]:
            assert writer(language, seed).vary(sentence) == sentence
            found = writer(language, seed, **{share: 1.0}).vary(sentence)
            check(found)
            changed += found != sentence
    caseless = share in ("capitals", "lower", "headline") and language not in CASED
    unspaced = share == "wrapped" and language in ("zh", "ja")
    if caseless or unspaced:
        assert not changed
    elif share != "wrapped":  # short lines are not wrapped
        assert changed


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_keeps_its_id_and_its_names_are_as_many(language: str) -> None:
    """The id tells retrieval what to leave out, wherever the sentence stands in a longer text."""
    for seed in range(40):
        for number, sentence in enumerate(SENTENCES[language]):
            own = Sentence(sentence.text, sentence.entities, language, f"panx:{number}")
            found = writer(language, seed, **dict.fromkeys(SHARES, 0.6)).vary(own)
            assert found.id == f"panx:{number}"
            assert len(found.entities) >= len(own.entities)


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_and_honorifics_stand_outside_of_names(language: str) -> None:
    words = word_list(language)
    seen = set()
    for seed in range(40):
        for sentence in SENTENCES[language]:
            found = writer(language, seed)._title(sentence)
            check(found)
            names = [(entity.text, entity.label) for entity in found.entities]
            assert names == [(entity.text, entity.label) for entity in sentence.entities]
            for entity in found.entities:
                before, after = found.text[: entity.start], found.text[entity.end :]
                own = {title for title in words["titles"] if before.endswith(title)}
                own |= {title for title in words["honorifics"] if after.startswith(title)}
                assert bool(own) == (entity.label == "PER")
                seen |= own
    assert len(seen) > 3


@pytest.mark.parametrize("language", sorted(CASED))
def test_capitals_have_the_same_length(language: str) -> None:
    for seed in range(30):
        for share, change in (("capitals", str.upper), ("lower", str.lower)):
            for sentence in SENTENCES[language]:
                found = writer(language, seed, **{share: 1.0}).vary(sentence)
                assert len(found.text) == len(sentence.text)
                assert [(e.start, e.end) for e in found.entities] == [(e.start, e.end) for e in sentence.entities]
                assert found.text in (change(sentence.text), sentence.text)
                assert found.text == change(sentence.text) or len(change(sentence.text)) != len(sentence.text)


def test_letters_that_become_two_leave_the_sentence_as_it_is() -> None:
    sentence = marked("In {LOC} am See", "de", LOC="Groß-Gerau")
    assert same_length(sentence, sentence.text.upper()) is sentence
    assert same_length(sentence, sentence.text.lower()).entities[0].text == "groß-gerau"


def test_a_headline_has_capitals_and_a_wrapped_text_breaks() -> None:
    sentence = marked("the old friend of {PER} said that he would not come to the party.", "en", PER="ada lovelace")
    headline = writer("en", 1, headline=1.0).vary(sentence)
    assert headline.text == "The Old Friend Of Ada Lovelace Said That He Would Not Come To The Party."
    assert headline.entities[0].text == "Ada Lovelace"
    wrapped = [writer("en", seed, wrapped=1.0).vary(sentence) for seed in range(20)]
    assert {each.text.replace("\n", " ") for each in wrapped} == {sentence.text}
    assert any("\n" in each.text for each in wrapped)


@pytest.mark.parametrize("language", LANGUAGES)
def test_fragments_and_phrases_hold_no_name(language: str) -> None:
    pieces = [name for own in SENTENCES[language] for entity in own.entities for name in entity.text.split()]
    found = []
    for seed in range(300):
        own = writer(language, seed)
        found += [each for s in [*SENTENCES[language], nameless(language)] if (each := own.fragment(s)) is not None]
        phrase = own.phrase()
        assert not phrase.entities
        assert phrase.text
    assert found
    for fragment in found:
        assert not fragment.entities
        assert not any(piece in fragment.text for piece in pieces)


def test_a_fragment_stays_a_word_away_from_names() -> None:
    sentence = marked("aa bb cc {PER} dd ee ff gg", "en", PER="Ada")
    found = {each.text for seed in range(300) if (each := writer("en", seed).fragment(sentence)) is not None}
    words = {word.lower() for text in found for word in text.split()}
    assert words <= {"aa", "bb", "ee", "ff", "gg"}
    assert {"aa", "ee"} <= words


def test_names_in_records_are_the_values() -> None:
    records = 0
    for seed in range(400):
        found = writer("en", seed).names()
        check(found)
        assert found.entities
        if found.text.startswith('{"'):
            records += 1
            values = list(json.loads(found.text, object_pairs_hook=lambda pairs: [value for _, value in pairs]))
            assert values == [entity.text for entity in found.entities]
    assert records > 5


def test_the_same_seed_writes_the_same() -> None:
    def some(seed: int) -> list[str]:
        own = writer("en", seed, **dict.fromkeys(SHARES, 0.5))
        return [own.vary(SENTENCES["en"][0]).text for _ in range(10)] + [own.names().text for _ in range(10)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_languages_without_names_or_sentences_are_no_surprise() -> None:
    sentence = SENTENCES["en"][0]
    bare = Writer("en", settings(joined=1.0, swapped=1.0), Mentions(), {"en": []}, random.Random(1))
    assert bare.vary(sentence) == sentence
    with pytest.raises(DataError, match=r"mentions of \w+ .*'en'"):
        bare.names()


def test_mentions_that_are_no_example_are_left_out() -> None:
    mentions = Mentions()
    texts = ["A", "Ad", "x" * 40, "x" * 41, "New\nYork"]
    mentions.add(Sentence(text, (Entity(0, len(text), "LOC", text),), "en") for text in texts)
    assert mentions.of["en"]["LOC"] == ["Ad", "x" * 40]


def test_mapping_and_joining_by_hand() -> None:
    sentence = marked("{PER} in {LOC}.", "en", PER="Ada", LOC="Ulm")
    found = map_mentions(sentence, lambda mention, label, number: (f"<{mention}{number}>", 1, 1 + len(mention)))
    assert found.text == "<Ada0> in <Ulm1>."
    assert [(e.start, e.end, e.label, e.text) for e in found.entities] == [(1, 4, "PER", "Ada"), (11, 14, "LOC", "Ulm")]
    joined = join([sentence, nameless("ru"), sentence], [" ", "\n"])
    check(joined)
    assert joined.text == f"Ada in Ulm. {nameless('ru').text}\nAda in Ulm."
    assert [entity.text for entity in joined.entities] == ["Ada", "Ulm", "Ada", "Ulm"]
    with pytest.raises(ValueError, match="zip"):
        join([sentence, sentence], [])
