"""What is refused before a training begins."""

from __future__ import annotations

import pytest

from retrieveall.errors import InputError
from retrieveall.training.data import LanguageData, check_data
from retrieveall.types import Entity, Sentence

ADA = Sentence("Ada", (Entity(0, 3, "PER", "Ada"),), "de", "1")


def test_a_language_without_a_single_entity_is_refused() -> None:
    check_data({"de": LanguageData([ADA, Sentence("nichts")])}, ["PER"])
    with pytest.raises(InputError, match="expected fr training sentences with entities, got 2 sentences without any"):
        check_data({"de": LanguageData([ADA]), "fr": LanguageData([Sentence("rien"), Sentence("non")])}, ["PER"])


def test_a_label_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="'PER'"):
        check_data({"de": LanguageData([ADA])}, ["LOC"])
