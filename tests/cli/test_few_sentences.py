"""Languages with hardly enough to learn from are named, by ``train`` and ``add-language`` alike."""

from __future__ import annotations

import pytest

from retrieveall.cli.training_options import few, sizes
from retrieveall.types import Entity, Sentence

NAMED, PLAIN = Sentence("Ada", (Entity(0, 3, "PER", "Ada"),), "en", "1"), Sentence("none", (), "en", "2")


@pytest.mark.parametrize(
    ("train", "is_few", "said"),
    [
        ([NAMED], True, "1 sentence with 1 entity"),
        ([PLAIN] * 2000, True, "2,000 sentences with 0 entities"),
        ([NAMED] * 50, False, "50 sentences with 50 entities"),
    ],
)
def test_few_sentences_or_entities(train: list[Sentence], is_few: bool, said: str) -> None:
    assert few(train) is is_few
    assert sizes(train) == said
