"""Small corpora and an encoder fitted on them, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from retrieveall.knowledge import NgramEncoder
from retrieveall.types import Entity, Sentence

_NAMES = {
    "de": {
        "LOC": ["Hamburg", "Köln", "Bad Homburg"],
        "PER": ["Anna Meier", "Karl May"],
        "ORG": ["Hamburg SV"],
    },
    "ru": {"LOC": ["Москва", "Новый Орёл"], "PER": ["Анна Орлова"], "ORG": ["Спартак Москва"]},
    "zh": {"LOC": ["北京", "上海"], "PER": ["王小明"], "ORG": ["北京大学"]},
}
_FRAMES = {
    "de": ["{} liegt an der Elbe .", "Gestern war {} in der Zeitung .", "Siehe auch {}", "({})"],
    "ru": ["{} находится на реке .", "Вчера {} был в газете .", "См. также {}"],
    "zh": ["{}在河边。", "昨天{}上了报纸。", "参见{}"],
}


def _sentences(language: str, count: int, seed: int = 0) -> list[Sentence]:
    """Sentences with one mention each; many of them are duplicates of each other."""
    choose = random.Random(f"{language} {seed}")
    sentences = []
    for number in range(count):
        label = choose.choice(sorted(_NAMES[language]))
        name = choose.choice(_NAMES[language][label])
        frame = choose.choice(_FRAMES[language])
        start = frame.index("{}")
        text = frame.format(name) + (f" {choose.randrange(40)}" if choose.random() < 0.7 else "")
        entity = Entity(start, start + len(name), label, name)
        sentences.append(Sentence(text, (entity,), language, f"{language}:{number}"))
    return sentences


@pytest.fixture(scope="session")
def make_sentences() -> Callable[..., list[Sentence]]:
    return _sentences


@pytest.fixture(scope="session")
def corpora() -> dict[str, list[Sentence]]:
    return {language: _sentences(language, 60) for language in ("de", "ru", "zh")}


@pytest.fixture(scope="session")
def encoder(corpora: dict[str, list[Sentence]]) -> NgramEncoder:
    texts = [sentence.text for sentences in corpora.values() for sentence in sentences]
    return NgramEncoder.fit(texts, dimension=12, buckets=512)
