"""The values that travel between the stages. Plain, frozen, comparable; no torch, no numpy.

All offsets are Unicode code points of the text they refer to, end exclusive, so that
``text[entity.start:entity.end] == entity.text`` always holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "AnswerFaults",
    "Entity",
    "Knowledge",
    "KnownEntity",
    "Neighbour",
    "Prediction",
    "Route",
    "Sentence",
    "Word",
]


@dataclass(frozen=True, slots=True)
class Word:
    """One unit of segmentation: ``text == source[start:end]``; ``space_before`` tells whether white space precedes."""

    text: str
    start: int
    end: int
    space_before: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A labelled span. ``score`` is the model's probability that exactly this span has this label; None for gold."""

    start: int
    end: int
    label: str
    text: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with its gold entities, sorted by start and free of overlap."""

    text: str
    entities: tuple[Entity, ...] = ()
    language: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training sentence found near the input. ``similarity`` is the cosine, from -1 to 1."""

    sentence: Sentence
    similarity: float

    @property
    def language(self) -> str:
        return self.sentence.language or ""


@dataclass(frozen=True, slots=True)
class KnownEntity:
    """A mention of the training data that occurs in the input, at ``text[start:end]``.

    ``counts`` maps language to label to the number of training mentions. ``similarity`` is 1.0 for an exact
    match and less for a near one, whose ``surface`` then differs from ``text[start:end]``. ``inside`` is the number of
    training mentions of which these words are only a part, where that was looked for. If ``partial``, they are mostly
    that: ``counts`` are those of all mentions with these words, ``surface`` is one of them. ``outside`` is how often
    the words stand in the training data without touching a mention; 0 for parts of several words, where it is not
    counted.
    """

    start: int
    end: int
    surface: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    similarity: float = 1.0
    inside: int = 0
    partial: bool = False
    outside: int = 0

    def label_counts(self) -> dict[str, int]:
        """Counts per label, summed over languages."""
        total: dict[str, int] = {}
        for by_label in self.counts.values():
            for label, count in by_label.items():
                total[label] = total.get(label, 0) + count
        return total

    @property
    def label(self) -> str:
        """The most frequent label; ties go to the alphabetically first."""
        total = self.label_counts()
        return min(total, key=lambda label: (-total[label], label))

    @property
    def mostly_inside(self) -> bool:
        """Whether the words are more often a part of mentions than a mention."""
        return self.partial or self.inside > sum(self.label_counts().values())

    @property
    def mention_share(self) -> float:
        """How many of the places where the words stand are a mention, or in one: the "keyphraseness" of Mihalcea and
        Csomai (2007), from 0 to 1.
        """
        mentions = sum(self.label_counts().values()) + (0 if self.partial else self.inside)
        return mentions / (mentions + self.outside) if mentions else 0.0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What retrieval found for one input: the context level and the entity level."""

    neighbours: tuple[Neighbour, ...] = ()
    entities: tuple[KnownEntity, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Which adapters run, and with what weight (``adapters`` sums to 1, or is empty for the bare backbone).

    ``votes`` are the shares of the similarity-weighted vote of the neighbours; ``reason`` is one of
    ``"vote"``, ``"mixture"``, ``"fixed"`` (the caller chose), ``"fallback"`` (below the floor).
    """

    adapters: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, float] = field(default_factory=dict)
    reason: str = "vote"

    @property
    def language(self) -> str | None:
        """The language with the largest adapter weight; None where only the backbone runs."""
        return max(self.adapters, key=lambda name: (self.adapters[name], name)) if self.adapters else None


@dataclass(frozen=True, slots=True)
class AnswerFaults:
    """What is wrong with a written answer; all zero where a grammar limited it.

    ``malformed`` lines do not parse (an answer without an end counts as one), ``invented`` mentions are not in the
    text or not that often, ``unknown`` labels are not of the model.
    """

    malformed: int = 0
    invented: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """The entities of one text, sorted by start, with the route and the knowledge that led to them.

    ``faults`` are those of the answer that the model wrote; None where it read tags.
    """

    text: str
    entities: tuple[Entity, ...]
    route: Route
    knowledge: Knowledge
    faults: AnswerFaults | None = None
