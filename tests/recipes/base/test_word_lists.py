"""The word lists: the same keys for all languages, slots that can be filled, and no text that models are judged on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes.base.settings import Language
from recipes.base.variations import CASED, WORDS, word_list
from recipes.measure.ordinary import read_ordinary

LANGUAGES = Language.__args__  # type: ignore[attr-defined]
LEAST = {"phrases": 90, "with_names": 50, "greetings": 12, "closings": 8, "titles": 6, "words": 60, "subjects": 15}
# The frames, with other names, of two judged texts. To be taken out of the lists at the next build of the model.
FRAMES_OF_BOTH = {"Chère Sophie,", "세종대왕은 서울에서 태어났다."}
SAMPLES = Path(__file__).parents[2] / "samples"


def test_there_is_a_list_of_every_language() -> None:
    assert {path.stem for path in WORDS.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_lists_are_whole(language: str) -> None:
    found = word_list(language)
    assert set(found) == {*LEAST, "honorifics"}
    for name, texts in found.items():
        assert all(isinstance(text, str) and text.strip() for text in texts), name
        assert len(set(texts)) == len(texts), name
        assert len(texts) >= LEAST.get(name, 0), name
    assert bool(found["honorifics"]) == (language not in CASED)


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_are_where_names_are_and_can_be_filled(language: str) -> None:
    for name, texts in word_list(language).items():
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
def test_titles_stand_apart_from_names(language: str) -> None:
    if language in CASED:
        assert all(title.endswith((" ", "'", "’")) for title in word_list(language)["titles"])


def pattern(text: str) -> str:
    """Letters alone, in one case: two texts of the same pattern teach each other's answer."""
    return re.sub(r"[^\w{}]+", " ", text).casefold().strip()


def test_no_text_that_models_are_judged_on_is_trained_on() -> None:
    judged = {}
    for marked in read_ordinary(SAMPLES / "ordinary.txt"):
        text = marked.text
        for entity in reversed(marked.entities):
            text = f"{text[: entity.start]}{{{entity.label}}}{text[entity.end :]}"
        if re.search(r"\w", re.sub(r"\{\w+\}", "", text)):  # names alone are no text of anyone
            judged[pattern(text)] = marked.text
    assert len(judged) > 40
    taken = {
        judged[pattern(text)]: language
        for language in LANGUAGES
        for texts in word_list(language).values()
        for text in texts
        if pattern(text) in judged
    }
    assert set(taken) == FRAMES_OF_BOTH
