"""Known mentions in a text: exact matches of word sequences, then partial matches, words that are components of longer
mentions, then matches that differ in case or endings.

Knows words, labels and counts; not vectors, and not where the sentences are stored. A lookup that excludes sentences
gives what an index built without them would give.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from retrieveall.data.segmentation import segment
from retrieveall.knowledge.components import Components, components_of
from retrieveall.knowledge.mentions import MIN_COMMON, MentionCounts, mentions, outside
from retrieveall.knowledge.phrases import BREAK, PhraseHashes, Phrases
from retrieveall.knowledge.stems import similarity, spellings, stem_sizes
from retrieveall.knowledge.surfaces import Surface
from retrieveall.knowledge.words import WordTable
from retrieveall.types import KnownEntity, Sentence, Word

__all__ = ["EntityIndex"]

_NOISE = 3  # words that stand outside of mentions more than this many times as often as inside are no name
_FOLDED = 0.95  # similarity of a match that differs in case only
_MAX_NEAR_WORDS = 6
_INSIDE = 4  # a word that stands in longer mentions more than this many times as often as alone is a partial match
_PARTIAL_NOISE = 1  # what _NOISE is, for partial matches
# A component of several words, which are single characters then, may occur by chance. It is a match if at least this
# many mentions have it, and this share of them has one label.
_EDGE_COUNT = 2
_EDGE_SHARE = 0.7


class EntityIndex:
    """The mentions of the training data of all languages.

    Args:
        counts: what ``count_mentions`` gave for each language.
    """

    def __init__(self, counts: Mapping[str, MentionCounts]) -> None:
        self._counts = {language: counts[language] for language in sorted(counts)}
        self._languages = list(self._counts)
        # Surfaces are numbered through all languages.
        self._starts = [0]
        for each in self._counts.values():
            self._starts.append(self._starts[-1] + len(each.surfaces))
        self._exact = Phrases(PhraseHashes.of(table, first) for first, table in self._tables(fold=True))
        self._component_counts: dict[str, dict[str, Counter[str]]] = {}

    def lookup(
        self,
        text: str,
        *,
        exclude: Sequence[Sentence] = (),
        languages: Collection[str] | None = None,
        near_matches: bool = True,
        partial_matches: bool = False,
    ) -> list[KnownEntity]:
        """The known mentions in ``text``, by position, free of overlap.

        Matches begin and end at words. Exact ones come first, from the left and the longest at each place. With
        ``partial_matches``, the remaining words are searched for components of longer surfaces; an exact match of a
        single word that stands in longer surfaces far more often becomes a partial one, too. What remains then is
        searched for surfaces that differ in case, and with ``near_matches`` in their endings. Words that stand outside
        of mentions far more often than inside, and surfaces without a letter or a digit, do not count.

        Args:
            exclude: training sentences to treat as never seen, with ``language`` set.
            languages: use the training data of these only.
        """
        words = segment(text)
        folded = [word.text.casefold() for word in words]
        view = _View(self, words, folded, languages, self._removed(exclude))
        exact: list[_Match] = []
        folded_only: list[_Match] = []
        for first, last, numbers in self._exact.find([(word,) for word in folded]):
            for match in view.matches(first, last, numbers):
                (exact if match.similarity == 1.0 else folded_only).append(match)
        free = [True] * len(words)
        chosen = _leftmost_longest(exact, free)
        if partial_matches:
            chosen = [view.exact_or_partial(match) for match in chosen]
            found = (view.partial(*place) for place in self._components.find([word.text for word in words], free))
            chosen += _leftmost_longest((match for match in found if match is not None), free)
        near = folded_only
        if near_matches and any(free):
            stems = [spellings(word) if usable else () for word, usable in zip(folded, free, strict=True)]
            for first, last, numbers in self._near.find(stems):
                near += view.matches(first, last, numbers)
        chosen += _leftmost_longest(near, free)
        return [_known(match, words, text) for match in sorted(chosen)]

    def surfaces(self, text: str) -> list[tuple[str, Surface]]:
        """Language and surface wherever exactly the words of ``text`` are a surface."""
        key = BREAK.join(word.text for word in segment(text))
        found = map(self.surface, self._exact.numbers(key.casefold()))
        return [(language, surface) for language, surface in found if surface.key == key]

    def surface(self, number: int) -> tuple[str, Surface]:
        """Language and surface of a number."""
        language, row = self._row(number)
        return language, self._counts[language].surfaces[row]

    def component_counts(self, component: str) -> Mapping[str, Mapping[str, int]]:
        """The mentions with this component, by language and label."""
        known = self._component_counts.get(component)
        if known is None:
            known = {}
            for number in self._components.numbers(component):
                language, row = self._row(number)
                known.setdefault(language, Counter()).update(self._counts[language].surfaces.counts(row))
            self._component_counts[component] = known
        return known

    def surfaces_with(self, component: str) -> Iterator[tuple[str, Surface]]:
        """Language and surface of all that have this component."""
        return map(self.surface, self._components.numbers(component))

    def common(self, word: str, languages: Collection[str] | None, removed: Mapping[str, _Removed]) -> int:
        """How often a case-folded word stands outside of mentions."""
        if languages is None and not removed:
            return self._common.get(word, 0)
        total = 0
        for language, counts in self._counts.items():
            if languages is None or language in languages:
                left = counts.common.get(word, 0)
                if language in removed:
                    left -= removed[language].words[word]
                total += left if left >= MIN_COMMON else 0
        return total

    def _row(self, number: int) -> tuple[str, int]:
        """Language of a surface, and its row there."""
        place = bisect_right(self._starts, number) - 1
        return self._languages[place], number - self._starts[place]

    @functools.cached_property
    def _common(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts.common)
        return total

    @functools.cached_property
    def _near(self) -> Phrases:
        return Phrases(_stems(table, first) for first, table in self._tables(fold=True))

    @functools.cached_property
    def _components(self) -> Components:
        return Components(self._tables())

    def _tables(self, *, fold: bool = False) -> Iterator[tuple[int, WordTable]]:
        """The words of each language's surfaces, or case-folded, and the number of its first surface."""
        for first, counts in zip(self._starts, self._counts.values(), strict=False):
            keys = counts.surfaces.keys()
            yield first, WordTable(keys.casefold() if fold else keys)

    def _removed(self, sentences: Sequence[Sentence]) -> dict[str, _Removed]:
        removed: dict[str, _Removed] = {}
        for sentence in sentences:
            gone = removed.setdefault(sentence.language or "", _Removed())
            for form, label in mentions(sentence):
                key = form.replace(" ", BREAK)
                gone.mentions.setdefault(key, Counter())[label] += 1
                for component in components_of(key):
                    gone.components.setdefault(component, Counter())[label] += 1
            words, phrases = outside(sentence, self._exact)
            gone.words.update(words)
            gone.phrases.update(phrases)
        return removed


@dataclass(slots=True)
class _Removed:
    """What the excluded sentences contributed in one language: mentions by key, words and phrases case-folded."""

    mentions: dict[str, Counter[str]] = field(default_factory=dict)
    components: dict[str, Counter[str]] = field(default_factory=dict)
    words: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)


class _Match(NamedTuple):
    """Words ``first`` to ``last`` (exclusive) as a known surface."""

    first: int
    last: int
    similarity: float
    form: str
    counts: Mapping[str, Mapping[str, int]]
    outside: int = 0
    inside: int = 0
    partial: bool = False

    @property
    def rank(self) -> tuple[float, int, str]:
        """Sorts the best reading of the same words first."""
        return (-self.similarity, -_total(self.counts), self.form)


_Reading = tuple[float, str, Mapping[str, Mapping[str, int]], int]  # similarity, form, counts and outside of a match


class _View:
    """The index as one lookup sees it: for one text, some languages, and without the excluded sentences."""

    def __init__(
        self,
        index: EntityIndex,
        words: Sequence[Word],
        folded: Sequence[str],
        languages: Collection[str] | None,
        removed: Mapping[str, _Removed],
    ) -> None:
        self._index = index
        self._words = [word.text for word in words]
        self._folded = folded
        self._languages = languages
        self._removed = removed
        # A long text repeats its words.
        self._readings: dict[tuple[object, ...], list[_Reading]] = {}

    def matches(self, first: int, last: int, numbers: Sequence[int]) -> list[_Match]:
        """The surfaces among ``numbers`` that match these words and have mentions left."""
        asked = (*numbers, *self._words[first:last])
        readings = self._readings.get(asked)
        if readings is None:
            readings = self._readings[asked] = list(self._read(first, last, numbers))
        return [_Match(first, last, *reading) for reading in readings]

    def partial(self, first: int, last: int) -> _Match | None:
        """These words as a component of longer surfaces; None if too few mentions have it, or it is a common word."""
        component = BREAK.join(self._words[first:last])
        counts = self._component_counts(component)
        total = _total(counts)
        outside = 0
        if last - first > 1:
            labels: Counter[str] = sum((Counter(by_label) for by_label in counts.values()), Counter())
            good = total >= _EDGE_COUNT and max(labels.values()) >= _EDGE_SHARE * total
        else:
            outside = self._common(first)
            good = total > 0 and outside <= _PARTIAL_NOISE * total
        return _Match(first, last, 1.0, self._longer(component), counts, outside, total, partial=True) if good else None

    def exact_or_partial(self, match: _Match) -> _Match:
        """An exact match with its count inside of longer mentions; a partial match where it mostly stands in those."""
        if match.last - match.first > 1:
            return match
        word = self._words[match.first]
        inside = self._component_counts(word)
        total = _total(inside)
        if total <= _INSIDE * _total(match.counts):
            return match._replace(inside=total)
        counts = {
            language: Counter(match.counts.get(language, {})) + Counter(inside.get(language, {}))
            for language in sorted({*match.counts, *inside})
        }
        return match._replace(form=self._longer(word), counts=counts, inside=total, partial=True)

    def _component_counts(self, component: str) -> Mapping[str, Mapping[str, int]]:
        """What is left of the mentions with this component."""
        counts = self._index.component_counts(component)
        if self._languages is None and not self._removed:
            return counts
        kept: dict[str, Mapping[str, int]] = {}
        for language, by_label in counts.items():
            if self._languages is None or language in self._languages:
                gone = self._removed.get(language)
                less = gone.components.get(component, Counter()) if gone else Counter()
                left = _left(by_label, less)
                if left:
                    kept[language] = left
        return kept

    def _longer(self, component: str) -> str:
        """The first surface with this component that has mentions left."""
        for language, surface in self._index.surfaces_with(component):
            if self._languages is None or language in self._languages:
                counts, _ = self._counts(surface.key, {language: surface})
                if counts:
                    return surface.form
        return component

    def _common(self, place: int) -> int:
        """How often the word at ``place`` stands outside of mentions."""
        return self._index.common(self._folded[place], self._languages, self._removed)

    def _read(self, first: int, last: int, numbers: Sequence[int]) -> Iterator[_Reading]:
        by_key: dict[str, dict[str, Surface]] = {}
        for number in numbers:
            language, surface = self._index.surface(number)
            if self._languages is None or language in self._languages:
                by_key.setdefault(surface.key, {})[language] = surface
        for key, surfaces in by_key.items():
            alike = self._alike(first, last, key)
            if not alike:
                continue
            counts, outside = self._counts(key, surfaces)
            if last - first == 1:
                outside = self._common(first)
            if counts and outside <= _NOISE * _total(counts) and any(map(str.isalnum, key)):
                yield alike, next(surfaces[language].form for language in counts), counts, outside

    def _alike(self, first: int, last: int, key: str) -> float:
        """1 for the same words, less for the same in another case or with other endings, 0 for others."""
        words, known = self._words[first:last], key.split(BREAK)
        if words == known:
            return 1.0
        if self._folded[first:last] == key.casefold().split(BREAK):
            return _FOLDED
        return similarity(words, known)

    def _counts(self, key: str, surfaces: Mapping[str, Surface]) -> tuple[dict[str, Mapping[str, int]], int]:
        """What is left of a surface: mentions by language and label, and occurrences outside of mentions."""
        counts: dict[str, Mapping[str, int]] = {}
        outside = 0
        for language, surface in surfaces.items():
            gone = self._removed.get(language)
            if gone is None:
                counts[language] = surface.counts
                outside += surface.outside
                continue
            left = _left(surface.counts, gone.mentions.get(key, Counter()))
            if left:
                counts[language] = left
                # An excluded sentence that was never indexed would otherwise leave a negative count.
                outside += max(0, surface.outside - gone.phrases[key.casefold()])
        return counts, outside


def _stems(table: WordTable, first: int) -> PhraseHashes:
    """The stems of surfaces; where every word is one character, as in Chinese, there are no endings."""
    stems = PhraseHashes.of(table, first, sizes=stem_sizes(table))
    return stems.only((table.counts <= _MAX_NEAR_WORDS) & table.long)


def _total(counts: Mapping[str, Mapping[str, int]]) -> int:
    return sum(sum(by_label.values()) for by_label in counts.values())


def _left(counts: Mapping[str, int], less: Counter[str]) -> dict[str, int]:
    """``counts`` minus ``less``, without what is nothing then."""
    return {label: n - less[label] for label, n in counts.items() if n > less[label]}


def _leftmost_longest(matches: Iterable[_Match], free: list[bool]) -> list[_Match]:
    """Non-overlapping matches among the ``free`` words, which are then no longer free."""
    chosen = []
    for match in sorted(matches, key=lambda match: (match.first, -match.last, match.rank)):
        if all(free[match.first : match.last]):
            free[match.first : match.last] = [False] * (match.last - match.first)
            chosen.append(match)
    return chosen


def _known(match: _Match, words: Sequence[Word], text: str) -> KnownEntity:
    start, end = words[match.first].start, words[match.last - 1].end
    exact = match.similarity == 1.0 and not match.partial
    surface = text[start:end] if exact else match.form.replace(BREAK, "")
    return KnownEntity(start, end, surface, match.counts, match.similarity, match.inside, match.partial, match.outside)
