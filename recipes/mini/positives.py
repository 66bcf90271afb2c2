"""Sentences of plain text whose names are all known, labelled by the entity index: distant supervision.

A sentence is taken where the index knows a name in it and what is left of it without its names shows no sign of one
more. In languages with capital letters a known given name and what follows it is a person. A model that has seen only
PAN-X and sentences without names learns that a full stop means "no name here"; in Chinese and Japanese it then found
one name in four. Only every second line is read; ``scripts/prose_names.py`` measures on the others.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ahocorasick_rs import AhoCorasick, MatchKind

from recipes.corpora import Lines, Sentences
from recipes.mini.plain_text import (
    CASED,
    Counts,
    characters,
    count,
    fits_length,
    mentions_of,
    read_lines,
    sample,
    sentences_of,
    vary,
    word_list,
)
from recipes.mini.settings import PositivesSettings
from recipes.mini.signs import Rule, rest_has_no_name
from recipes.steps import Files
from retrieveall.data import write_jsonl
from retrieveall.knowledge import KnowledgeBase
from retrieveall.types import Entity, KnownEntity, Sentence

__all__ = ["Names", "find_names", "find_positives", "labelled", "names_of", "select", "training_lines"]

_BATCH = 256
_PAUSE = {"zh": "，", "ja": "、"}  # stands for a name that is taken out, where there are no spaces
_CAPITALISED = re.compile(r"[^\W\d_a-zà-ÿа-я][\w’-]*(?: [^\W\d_a-zà-ÿа-я][\w’-]*)*")
_JA_RUN = re.compile("[ァ-ヺー]{2}")
_JA_PERSON = re.compile(r"([ァ-ヺー]{2,})(?:・[ァ-ヺー]{2,})*")
_ZH_PERSON_REST = re.compile(r"(?:[·•・][\u3400-\u9fff]{1,5}(?=[，。、的和与與说說在是]))?")


def find_positives(
    folder: Path, settings: PositivesSettings, train: Sentences, text: Lines, knowledge: Path, words: Files
) -> None:
    """``LANGUAGE.jsonl``."""
    base = KnowledgeBase.open(knowledge)
    for language in train.languages:
        rng = random.Random(f"{settings.seed} {language}")
        lines, sentences = read_lines(text, language), train.of(language)
        counts = count(sample(lines, settings.statistics_lines, rng), language)
        names = names_of(language, sentences)
        accept = rest_has_no_name(language, counts, mentions_of(sentences), list(names.labels))
        label = partial(labelled, base=base, accept=accept, language=language, counts=counts, names=names)
        rows = list(select(training_lines(lines), label, language, settings, rng))
        write_jsonl(rows, folder / f"{language}.jsonl")
        labels = Counter(entity.label for row in rows for entity in row.entities)
        print(f"{language}: {len(rows):,} sentences, {dict(labels)}", flush=True)


@dataclass
class Names:
    """What the training data says about the names of a language.

    ``labels`` has the label of each mention seen at least three times, 8 in 10 times with that label, and not more
    often as a word like any other; ``given`` the first names of people, each of at least five of them; in
    Chinese and Japanese those that a point separates from the rest.
    """

    labels: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def names_of(language: str, sentences: Sequence[Sentence]) -> Names:
    """The names of the training sentences of a language."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, Counter[str]] = defaultdict(Counter)
    for entity in (entity for sentence in sentences for entity in sentence.entities):
        seen[entity.text][entity.label] += 1
        words = re.split(r"[·•・]" if language in ("zh", "ja") else r"\s", entity.text)
        if words[0] and (len(words) > 1 or language in CASED):
            first[words[0]][entity.label] += 1
    likely = {
        mention: label
        for mention, labels in seen.items()
        for label, number in labels.most_common(1)
        if len(mention) > 1 and labels.total() >= 3 and number >= 0.8 * labels.total()
    }
    mentions = list(likely)
    automaton = AhoCorasick(mentions, matchkind=MatchKind.LeftmostLongest)
    outside: Counter[str] = Counter()
    for sentence in sentences:
        rest = "\0".join(around(sentence.text, sentence.entities))
        outside.update(mentions[i] for i, _, _ in automaton.find_matches_as_indexes(rest))
    kept = {
        mention: label
        for mention, label in likely.items()
        if outside[mention] <= seen[mention].total() and not re.fullmatch("[ぁ-んー]+", mention)
    }
    given = frozenset(
        word
        for word, labels in first.items()
        if len(word) > 1 and labels["PER"] >= 5 and labels["PER"] >= 0.9 * labels.total()
    )
    return Names(kept, given)


def around(text: str, names: Iterable[Entity]) -> Iterator[str]:
    """The stretches of the text before, between and after its names."""
    position = 0
    for name in names:
        yield text[position : name.start]
        position = name.end
    yield text[position:]


def training_lines(lines: list[str]) -> list[str]:
    """Every second line, once, and none that is also among the others."""
    others = set(lines[::2])
    return [line for line in dict.fromkeys(lines[1::2]) if line not in others]


def find_names(text: str, known: Sequence[KnownEntity], language: str, counts: Counts, names: Names) -> list[Entity]:
    """Known mentions and people by their given names."""

    def is_name(mention: str) -> bool:
        if mention not in names.labels or language not in CASED:
            return mention in names.labels
        seldom_a_word = counts.lower[mention.lower()] < counts.inner[mention]
        return mention[0].isupper() and (seldom_a_word or not mention.isalpha())

    spans = ((entity.start, entity.end, text[entity.start : entity.end]) for entity in known)
    found = [
        Entity(start, end, names.labels[mention], mention)
        for start, end, mention in spans
        if is_name(mention) and _is_whole(text, start, end)
    ]
    for start, end in _people(text, language, counts, names.given):
        found = [name for name in found if name.end <= start or name.start >= end]
        found.append(Entity(start, end, "PER", text[start:end]))
    return sorted(found)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no run of katakana goes on before or after."""
    return not any(_JA_RUN.match(text[border - 1 : border + 1]) for border in (start, end))


def _people(text: str, language: str, counts: Counts, given: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where a known given name stands, with what follows it."""
    if language in CASED:
        for run in _CAPITALISED.finditer(text):
            words = run.group().split()
            if words[0] in given and counts.lower[words[0].lower()] < counts.inner[words[0]] and len(words) <= 3:
                yield run.span()
    elif language == "ja":
        yield from (run.span() for run in _JA_PERSON.finditer(text) if run.group(1) in given)
    elif language == "zh" and given:
        for first in re.finditer("|".join(map(re.escape, sorted(given))), text):
            rest = _ZH_PERSON_REST.match(text, first.end())
            yield first.start(), rest.end() if rest else first.end()


def labelled(
    texts: list[str], base: KnowledgeBase, accept: Rule, language: str, counts: Counts, names: Names
) -> Iterator[tuple[str, list[Entity]]]:
    """The texts with names, all of whose names are known."""
    goes_on = characters(language, "goes_on") if "goes_on" in word_list(language) else ""
    found = base.retrieve(texts, 0, languages=[language], near_matches=False)
    for text, knowledge in zip(texts, found, strict=True):
        here = find_names(text, knowledge.entities, language, counts, names)
        if not here or any(text[name.end : name.end + 1] in tuple(goes_on) for name in here):
            continue
        rest = _without(text, here, language)
        if sum(map(str.isalpha, rest)) >= 4 and accept(rest):
            yield text, here


def _without(text: str, names: Iterable[Entity], language: str) -> str:
    """The text with its names taken out, as a sentence again."""
    rest = re.sub(r"\s+", " ", _PAUSE.get(language, "").join(around(text, names))).lstrip(" ,，、")
    return rest[:1].upper() + rest[1:]


def select(
    lines: list[str],
    label: Callable[[list[str]], Iterator[tuple[str, list[Entity]]]],
    language: str,
    settings: PositivesSettings,
    rng: random.Random,
) -> Iterator[Sentence]:
    """Labelled sentences out of lines in random order, as many as the settings allow."""
    seen: set[str] = set()
    uses: Counter[str] = Counter()
    most = settings.per_line.get(language, 3)
    order = rng.sample(lines, len(lines))
    for first in range(0, len(order), _BATCH):
        texts = []
        for line in order[first : first + _BATCH]:
            candidates = [text for text in sentences_of(line) if fits_length(text)]
            texts += sample(candidates, most, rng)
        for text, names in label(texts):
            if text in seen or any(uses[name.text] >= settings.per_name for name in names):
                continue
            if len(seen) == settings.sentences:
                return
            seen.add(text)
            uses.update(name.text for name in names)
            shown = vary(text, rng, ".!?…。！？ ", cased=language in CASED)
            if all(name.end <= len(shown) for name in names):
                entities = tuple(Entity(n.start, n.end, n.label, shown[n.start : n.end]) for n in names)
                yield Sentence(shown, entities, language)
