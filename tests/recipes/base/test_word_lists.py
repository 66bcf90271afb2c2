"""The word lists: the same keys for all languages, slots that can be filled, and no text that models are judged on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes.base.settings import Language
from recipes.base.variations import CASED, EVERYDAY_LABELS, WORDS, word_list
from recipes.measure.ordinary import read_ordinary

LANGUAGES = Language.__args__  # type: ignore[attr-defined]
LEAST = {
    "phrases": 90, "with_names": 50, "greetings": 12, "closings": 8, "titles": 6, "words": 60, "subjects": 15,
    "everyday": 45, "everyday_phrases": 30, "first": 20, "person": 14, "city": 20, "country": 10, "company": 20,
}  # fmt: skip
EVERYDAY_SLOT = re.compile(r"\{(\w+)(?::(?:nom|gen|dat|acc|ins|loc))?\}(?:\[[^|\[\]]+\|[^|\[\]]+\])?")
SAMPLES = Path(__file__).parents[2] / "samples"


def test_there_is_a_list_of_every_language() -> None:
    assert {path.stem for path in WORDS.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_lists_are_whole(language: str) -> None:
    found = word_list(language)
    assert set(found) == {*LEAST, "honorifics", *(("surname",) if language == "de" else ())}
    for name, texts in found.items():
        assert all(isinstance(text, str) and text.strip() for text in texts), name
        assert len(set(texts)) == len(texts), name
        assert len(texts) >= LEAST.get(name, 0), name
    assert bool(found["honorifics"]) == (language not in CASED)


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_are_where_names_are_and_can_be_filled(language: str) -> None:
    for name, texts in word_list(language).items():
        if name == "everyday":
            continue
        for text in texts:
            slots = re.findall(r"\{(\w*)\}", text)
            assert set(slots) <= {"PER", "ORG", "LOC"}, text
            assert text.count("{") == text.count("}") == len(slots), text
            if name not in ("with_names", "greetings"):
                assert not slots, text
    assert all("{PER}" in text for text in word_list(language)["greetings"])
    for label in ("PER", "ORG", "LOC"):
        assert sum(f"{{{label}}}" in text for text in word_list(language)["with_names"]) >= 10
    assert all("{" in text for text in word_list(language)["with_names"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_of_everyday_sentences_have_names(language: str) -> None:
    words = word_list(language)
    for text in words["everyday"]:
        slots = EVERYDAY_SLOT.findall(text)
        assert slots, text
        assert not re.search(r"[{}\[\]|]", EVERYDAY_SLOT.sub("", text)), text
        assert all(kind in EVERYDAY_LABELS and words[kind] for kind in slots), text
        for kind in re.findall(r"\{(\w+):", text):  # in a case: every name has its six forms
            assert all(name.count("|") == 5 for name in words[kind]), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_stand_apart_from_names(language: str) -> None:
    if language in CASED:
        assert all(title.endswith((" ", "'", "’")) for title in word_list(language)["titles"])


def pattern(text: str) -> str:
    """Letters alone, in one case: two texts of the same pattern teach each other's answer."""
    return re.sub(r"[^\w{}]+", " ", text).casefold().strip()


@pytest.mark.parametrize("judged_on", ["ordinary.txt", "everyday.txt"])
def test_no_text_that_models_are_judged_on_is_trained_on(judged_on: str) -> None:
    judged = {}
    for marked in read_ordinary(SAMPLES / judged_on):
        text = marked.text
        for entity in reversed(marked.entities):
            text = f"{text[: entity.start]}{{{entity.label}}}{text[entity.end :]}"
        if re.search(r"\w", re.sub(r"\{\w+\}", "", text)):  # names alone are no text of anyone
            judged[pattern(text)] = marked.text
    assert len(judged) > 40
    for language in LANGUAGES:
        for texts in word_list(language).values():
            for text in texts:
                assert not (forms(text) & set(judged)), text


def forms(text: str) -> set[str]:
    """The patterns of a text of the lists, its slots as labels and with either particle."""
    as_labels = re.sub(r"\{(\w+)(?::\w+)?\}", lambda slot: f"{{{EVERYDAY_LABELS.get(slot[1], slot[1])}}}", text)
    return {pattern(re.sub(r"\[([^|]*)\|([^\]]*)\]", rf"\{side}", as_labels)) for side in (1, 2)}
