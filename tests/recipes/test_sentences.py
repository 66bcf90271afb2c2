"""What a language is trained on: shares, swapped mentions, and offsets that hold."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from recipes.mini.recipe import Settings
from recipes.mini.sentences import swap_mentions, training_sentences
from recipes.settings import read_settings
from retrieveall.types import Entity, Sentence

RECIPE = Path(__file__).parents[2] / "recipes" / "mini" / "recipe.yaml"


def prose(count: int) -> list[Sentence]:
    entities = (Entity(7, 11, "PER", "Anna"), Entity(15, 18, "LOC", "Ulm"))
    return [Sentence(f"We met Anna in Ulm, {i}.", entities, "de") for i in range(count)]


def test_shares_are_those_of_the_settings(corpus: dict[str, list[Sentence]]) -> None:
    settings = read_settings(Settings, RECIPE, changes=["sentences.swapped=0.5"]).sentences
    own = [sentence for _ in range(16) for sentence in corpus["de"]]  # 320
    without_names = [Sentence(f"No one, {i}.", (), "de") for i in range(1000)]
    found = training_sentences(settings, own, prose(4), without_names, random.Random(1))
    assert found[: len(own)] == own
    kinds = Counter("named" if s.text.startswith("We met") else "none" if not s.entities else "panx" for s in found)
    # Of 480 sentences of PAN-X, a sixteenth and an eighth; there are too few with names.
    assert kinds == {"panx": 320 + 160, "none": 60, "named": 4 * settings.repeats}
    swapped = found[len(own) : len(own) + 160 + 4 * settings.repeats]
    assert {s.id for s in swapped[:160]} <= {s.id for s in own}, "they are known by where they come from"
    assert all(s.text[e.start : e.end] == e.text for s in swapped for e in s.entities)
    assert sum("Anna" in s.text for s in swapped[160:]) < len(swapped[160:])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_mentions_are_swapped_for_others_of_their_label(share: float) -> None:
    rng = random.Random(1)
    mentions = {"PER": ["Karl May"], "LOC": ["Rom", "Bad Homburg"]}
    found = [swap_mentions(sentence, mentions, share, rng) for sentence in prose(200)]
    assert all(s.text[e.start : e.end] == e.text for s in found for e in s.entities)
    people = Counter(s.entities[0].text for s in found)
    assert people["Karl May"] / len(found) == pytest.approx(share, abs=0.1)
    assert {s.entities[0].label for s in found} == {"PER"}
    assert {s.entities[1].text for s in found} <= {"Ulm", "Rom", "Bad Homburg"}
    assert all(s.text.startswith("We met ") and s.text.endswith(".") for s in found)
