"""The mentions of training sentences, counted.

A surface is a sequence of words, whatever stands between them: "(Chile)" and "( Chile )" are the same. Knows
one language's sentences at a time; nothing is looked up here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieveall.data.segmentation import segment
from retrieveall.knowledge.phrases import BREAK, Phrases
from retrieveall.knowledge.surfaces import Surface, SurfaceTable
from retrieveall.types import Sentence, Word

__all__ = ["MIN_COMMON", "MentionCounts", "count_mentions", "mentions", "outside"]

MIN_COMMON = 2
"""Words that occur outside of mentions less often than this are not kept."""

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class MentionCounts:
    """Surfaces, sorted by form, and how often case-folded words stand outside of mentions."""

    surfaces: SurfaceTable
    common: Mapping[str, int]


def mentions(sentence: Sentence) -> list[tuple[str, str]]:
    """Form and label of every mention of ``sentence`` that has a word at all."""
    found = []
    for entity in sentence.entities:
        words = segment(sentence.text[entity.start : entity.end])
        if words:
            found.append((_form(words), entity.label))
    return found


def outside(sentence: Sentence, phrases: Phrases) -> tuple[Counter[str], Counter[str]]:
    """Case-folded words, and occurrences of ``phrases``, that touch no mention of ``sentence``."""
    taken = bytearray(len(sentence.text))
    for entity in sentence.entities:
        taken[entity.start : entity.end] = b"\1" * (entity.end - entity.start)
    free: list[tuple[str, ...]] = []
    for word in segment(sentence.text):
        free.append(() if any(taken[word.start : word.end]) else (word.text.casefold(),))
    found = (BREAK.join([words[0] for words in free[first:last]]) for first, last, _ in phrases.find(free))
    return Counter(words[0] for words in free if words), Counter(found)


def count_mentions(sentences: Sequence[Sentence]) -> MentionCounts:
    """Count the mentions of one language's sentences."""
    counts: dict[str, Counter[str]] = {}
    forms: dict[str, Counter[str]] = {}
    examples: dict[str, list[int]] = {}
    for position, sentence in enumerate(sentences):
        for form, label in mentions(sentence):
            key = form.replace(" ", BREAK)
            counts.setdefault(key, Counter())[label] += 1
            forms.setdefault(key, Counter())[form] += 1
            known = examples.setdefault(key, [])
            if len(known) < _EXAMPLES and position not in known:
                known.append(position)
    several = Phrases.of(sorted({key.casefold() for key in counts if BREAK in key}))
    common: Counter[str] = Counter()
    occurrences: Counter[str] = Counter()
    for sentence in sentences:
        words, phrases = outside(sentence, several)
        common.update(words)
        occurrences.update(phrases)
    surfaces = sorted(
        Surface(
            min(forms[key], key=lambda form: (-forms[key][form], form)),
            dict(sorted(counts[key].items())),
            occurrences[key.casefold()],
            tuple(examples[key]),
        )
        for key in counts
    )
    return MentionCounts(SurfaceTable.of(surfaces), {word: n for word, n in sorted(common.items()) if n >= MIN_COMMON})


def _form(words: Sequence[Word]) -> str:
    return words[0].text + "".join((" " if word.space_before else BREAK) + word.text for word in words[1:])
