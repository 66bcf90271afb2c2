"""Korean corpora label whole words, particles included (서울에서): here a name ends before its particle.

Whether the last syllable is a particle or a part of the name (경기|도 or 경기도, 인|도 or 인도) is decided by how often
each of the two stands in the corpora as a mention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import regex

from retrieveall.types import Sentence

__all__ = ["RIEUL", "Particles", "final_consonant"]

# Of two and more syllables, or hardly ever the end of a name: always a particle.
_SURE = regex.compile(
    r"(?:씨|님)?(?:에서(?:는|도|의)?|에게(?:는|도|서)?|에는|에도|으로(?:는|의|부터|서)?|로부터|까지|부터|께서|이라는|라는|이라고|이며|이고|"
    r"과의|와의|에|을|를|씨)$"
)
_PERHAPS = regex.compile(r"(?:씨|님)?(?:은|는|이|가|의|와|과|도|만|로|인|측|나|이나|였다|이다|라고|보다)$")
_TAIL = regex.compile(r"(?<=.)(?:[(（].*|[\p{P}--[)\]%'’”\"]]+)$", regex.V1)
_OPENING, _CLOSING = "'\"‘“(《<「", "'\"’”)》>」"
_HANGUL = range(0xAC00, 0xD7A4)
RIEUL = 8
"""The number of ㄹ among final consonants."""


class Particles:
    """Takes the particles off the mentions of Korean sentences; counts mentions in ``sentences`` first."""

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        self._mentions = Counter(
            sentence.text[entity.start : entity.end] for sentence in sentences for entity in sentence.entities
        )

    def strip(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        """The sentences with entities that end before their particles."""
        return [self._strip(sentence) for sentence in sentences]

    def _strip(self, sentence: Sentence) -> Sentence:
        entities = []
        for entity in sentence.entities:
            mention = sentence.text[entity.start : entity.end]
            start = entity.start + len(mention) - len(mention.lstrip(_OPENING))
            if start >= entity.end:
                continue
            name = self.name(sentence.text[start : entity.end], entity.label)
            if start > entity.start:
                name = name.rstrip(_CLOSING) or name
            end = start + len(name)
            entities.append(replace(entity, start=start, end=end, text=sentence.text[start:end]))
        return replace(sentence, entities=tuple(entities))

    def name(self, mention: str, label: str = "") -> str:
        """The mention without its particle, and without punctuation and brackets that stand in its last word."""
        if " " not in mention or not mention.isascii():
            mention = _TAIL.sub("", mention).rstrip() or mention
        last = mention.rsplit(" ", 1)[-1]
        found = _SURE.search(last)
        if found is not None and found.start() >= 1:
            stem = mention[: len(mention) - len(found[0])]
            if len(found[0]) > 1 or self._mentions[stem] or self._mentions[mention] < 3:
                return stem
            return mention
        found = _PERHAPS.search(last)
        if found is None or found.start() < 1:
            return mention
        stem = mention[: len(mention) - len(found[0])]
        if not _fits(stem, found[0]):
            return mention
        if found[0][0] in "씨님":
            return stem
        own, whole = self._mentions[stem], self._mentions[mention]
        short = label == "PER" and len(last) <= 3 and " " not in mention  # 김영은 is a whole name
        if found[0] in ("는", "의", "은") and not short:
            return stem if own or whole < 3 else mention
        if found[0] in ("이", "가", "와", "과", "보다", "였다", "이다", "라고") and not own and not whole:
            return mention if short or len(stem) < 2 else stem
        return stem if own >= max(1, whole) else mention


def _fits(stem: str, particle: str) -> bool:
    """Whether the particle may follow the last sound of the stem; after other scripts, any may."""
    final = final_consonant(stem[-1])
    if final is None:
        return True
    closed = final != 0
    if particle[0] in "은이과인":
        return closed
    if particle[0] in "는가와나":
        return not closed
    if particle == "로":
        return not closed or final == RIEUL
    return True


def final_consonant(syllable: str) -> int | None:
    """The number of the consonant that ends a Hangul syllable, 0 if it ends in a vowel; None for other scripts."""
    code = ord(syllable)
    return (code - _HANGUL.start) % 28 if code in _HANGUL else None
