"""Retrieval does not depend on how the letters of a text or of the training data are encoded."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieveall.data import normalise
from retrieveall.knowledge import KnowledgeBase
from retrieveall.types import Entity, Knowledge, Sentence

Form = Callable[[str], str]

_WIDE = {code: code + 0xFEE0 for code in (*range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B))}
_HALF = str.maketrans(dict(zip("テレビーガド。「」", ["ﾃ", "ﾚ", "ﾋﾞ", "ｰ", "ｶﾞ", "ﾄﾞ", "｡", "｢", "｣"], strict=True)))
FORMS: dict[str, Form] = {
    "NFC": lambda text: text,
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "full width": lambda text: text.translate(_WIDE),
    "half width": lambda text: text.translate(_HALF),
    "ligatures": lambda text: text.replace("fi", "ﬁ").replace("ff", "ﬀ"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "soft hyphens": lambda text: text.replace("a", "a\u00ad").replace("ー", "ー\u00ad"),
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def tagged(language: str, before: str, name: str, after: str, label: str, form: Form = str) -> Sentence:
    before, name, after = form(before), form(name), form(after)
    entity = Entity(len(before), len(before) + len(name), label, name)
    return Sentence(before + name + after, (entity,), language)


def corpora(form: Form = str) -> dict[str, list[Sentence]]:
    rows = [
        ("es", "Ayer ", "José Martínez", " nació en España .", "PER"),
        ("es", "El alcalde de ", "Málaga", " habló ayer .", "LOC"),
        ("ko", "작년에 ", "서울특별시", " 에서 만났다 .", "LOC"),
        ("ko", "그는 ", "김철수", " 라는 사람이다 .", "PER"),
        ("ja", "「", "NHKテレビ", "」がガードを放送した。", "ORG"),
        ("zh", "昨日", "北京", "有会议。", "LOC"),
        ("en", "The ", "Pacific Office", " opened .", "ORG"),
    ]
    found: dict[str, list[Sentence]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(tagged(*row, form))
    return found


TEXTS = [
    "José Martínez nació en Málaga",
    "서울특별시에서 김철수 라는 사람을 만났다",
    "昨日NHKテレビで「ガード」を見た。",
    "the Pacific Office in Málaga",
]


@pytest.fixture(scope="module")
def base() -> KnowledgeBase:
    return KnowledgeBase.build(corpora())


def spans(knowledge: Knowledge, text: str) -> list[tuple[str, object, float, str]]:
    """Known entities, by the normal form of the words that they cover."""
    return [
        (normalise(text[known.start : known.end]).text, known.counts, known.similarity, normalise(known.surface).text)
        for known in knowledge.entities
    ]


@forms
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_another_form_finds_the_same(base: KnowledgeBase, form: Form, text: str) -> None:
    (expected,), (found,) = base.retrieve([text], 3), base.retrieve([form(text)], 3)
    assert expected.entities
    assert found.neighbours == expected.neighbours
    assert spans(found, form(text)) == spans(expected, text)
    assert base.known_entities(form(text)) == found.entities
    exact = [known for known in found.entities if known.similarity == 1.0]
    assert all(form(text)[known.start : known.end] == known.surface for known in exact)


@forms
def test_training_data_in_another_form_give_the_same_index(base: KnowledgeBase, form: Form, tmp_path: Path) -> None:
    other = KnowledgeBase.build(corpora(form))
    other.save(tmp_path)
    for each in (other, KnowledgeBase.open(tmp_path)):
        assert each.retrieve(TEXTS, 5, partial_matches=True) == base.retrieve(TEXTS, 5, partial_matches=True)
        assert each.fingerprint() == base.fingerprint()
    assert [other.sentences("es")[row] for row in range(2)] == corpora()["es"]


@forms
def test_an_excluded_sentence_is_found_in_any_form(base: KnowledgeBase, form: Form) -> None:
    for language, sentences in corpora(form).items():
        for sentence, plain in zip(sentences, corpora()[language], strict=True):
            (expected,) = base.retrieve([plain.text], 9, exclude=[plain])
            (found,) = base.retrieve([sentence.text], 9, exclude=[sentence])
            assert found.neighbours == expected.neighbours
            assert len(found.neighbours) == 6
            assert found.entities == ()
            assert base.known_entities(sentence.text, exclude=[sentence]) == ()


@forms
def test_examples_are_found_in_any_form(base: KnowledgeBase, form: Form) -> None:
    text = form(TEXTS[0])
    known = base.known_entities(text)[0]
    assert [each.text for each in base.examples(known)] == ["Ayer José Martínez nació en España ."]
    assert base.examples(known, exclude=tagged("es", "Ayer ", "José Martínez", " nació en España .", "PER", form)) == []


def test_a_cluster_of_several_mentions_is_given_once() -> None:
    """U+FDFA stands for four words."""
    first, second = (Sentence(name, (Entity(0, len(name), "PER"),), "ar") for name in ("صلى", "الله"))
    base = KnowledgeBase.build({"ar": [first, second]})
    assert len(base.known_entities(normalise("ﷺ").text)) == 2
    (known,) = base.known_entities("a ﷺ")
    assert (known.start, known.end) == (2, 3)
