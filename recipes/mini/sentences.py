"""The training sentences of each language: PAN-X, plain text with and without names, and some with mentions swapped."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recipes.corpora import Sentences
from recipes.mini.settings import SentencesSettings
from retrieveall.data import read_corpus
from retrieveall.training.run import LanguageData
from retrieveall.types import Entity, Sentence

__all__ = ["language_data", "read_sentences", "swap_mentions", "training_sentences"]


def language_data(
    sentences: SentencesSettings, train: Sentences, validation: Sentences, negatives: Path, positives: Path
) -> dict[str, LanguageData]:
    """What a training gets: PAN-X train is the knowledge, and what is trained on is more than that."""
    data = {}
    for language in train.languages:
        own = train.of(language)
        with_names, without_names = (read_sentences(folder / f"{language}.jsonl") for folder in (positives, negatives))
        rng = random.Random(f"{sentences.seed} {language}")
        trained_on = training_sentences(sentences, own, with_names, without_names, rng)
        data[language] = LanguageData(trained_on, validation.of(language), own)
    return data


def training_sentences(
    settings: SentencesSettings,
    own: Sequence[Sentence],
    with_names: Sequence[Sentence],
    without_names: Sequence[Sentence],
    rng: random.Random,
) -> list[Sentence]:
    """All of ``own`` and a share of plain text, and a share of them once more with mentions swapped.

    The names of plain text were found because they are known, those of the next text need not be: such sentences only
    come with their mentions swapped for ones that need not be known either.
    """
    mentions: dict[str, list[str]] = defaultdict(list)
    for entity in (entity for sentence in own for entity in sentence.entities):
        mentions[entity.label].append(entity.text)
    once_more = rng.sample(own, round(settings.swapped * len(own)))
    total = len(own) + len(once_more)

    def plain(sentences: Sequence[Sentence], share: float) -> list[Sentence]:
        return (list(sentences) * settings.repeats)[: round(share * total)]

    # They keep their ids: the knowledge base is not to show where they come from.
    swapped = [
        swap_mentions(sentence, mentions, settings.mentions, rng)
        for sentence in [*once_more, *plain(with_names, settings.with_names)]
    ]
    return [*own, *swapped, *plain(without_names, settings.without_names)]


def swap_mentions(
    sentence: Sentence, mentions: Mapping[str, Sequence[str]], share: float, rng: random.Random
) -> Sentence:
    """The sentence with ``share`` of its mentions replaced by others of the same label and language."""
    text, entities, position = "", [], 0
    for entity in sentence.entities:
        text += sentence.text[position : entity.start]
        mention = rng.choice(mentions[entity.label]) if rng.random() < share else entity.text
        entities.append(Entity(len(text), len(text) + len(mention), entity.label, mention))
        text += mention
        position = entity.end
    return replace(sentence, text=text + sentence.text[position:], entities=tuple(entities))


def read_sentences(path: Path) -> list[Sentence]:
    """The sentences of a file; of little text that may be none."""
    return list(read_corpus(path, language=path.stem)) if path.stat().st_size else []
