"""The values passed between the stages: frozen, hashable, picklable; no torch, no numpy.

All offsets are Unicode code points of the text they refer to, end exclusive, so that
``text[entity.start:entity.end] == entity.text`` always holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, Self, TypeAlias, TypeVar

from retrieveall.errors import InputError

__all__ = [
    "LEVELS",
    "NO_LETTERS",
    "AnswerFaults",
    "Entity",
    "FrozenMapping",
    "Knowledge",
    "KnownEntity",
    "LanguageMatch",
    "Level",
    "Neighbour",
    "Prediction",
    "Route",
    "Sentence",
    "Word",
    "to_dicts",
    "to_rows",
]

Level: TypeAlias = Literal["entity", "context"]
"""A level of the prompt: known names, or example sentences."""
LEVELS: tuple[Level, ...] = ("entity", "context")
NO_LETTERS = "no_letters"
"""The reason of the route of a text that the model does not run on."""
_DIGITS = 4
"""Digits of probabilities, similarities and shares in plain data."""
_SHOWN_TEXT, _SHOWN_ENTITIES = 300, 20
"""Characters and entities that ``print(prediction)`` shows."""

K = TypeVar("K")
V = TypeVar("V")


class FrozenMapping(dict[K, V]):
    """An immutable dict, hashable if its values are. ``dict(mapping)`` makes a mutable copy."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Self], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a FrozenMapping is immutable; change a copy: dict(mapping)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def _freeze(mapping: Mapping[K, V]) -> FrozenMapping[K, V]:
    return mapping if type(mapping) is FrozenMapping else FrozenMapping(mapping)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text: ``text == source[start:end]``.

    ``space_before``: white space precedes it. ``opens``: a model reads it as the first word of a text.
    """

    text: str
    start: int
    end: int
    space_before: bool = False
    opens: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A labelled span. ``score`` is the model's probability that exactly this span has this label; None for gold."""

    start: int
    end: int
    label: str
    text: str = ""
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """``{"start", "end", "label", "text", "score"}``; no score for a gold entity."""
        plain: dict[str, Any] = {"start": self.start, "end": self.end, "label": self.label, "text": self.text}
        if self.score is not None:
            plain["score"] = round(self.score, _DIGITS)
        return plain


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with its gold entities, sorted by start, without overlap."""

    text: str
    entities: tuple[Entity, ...] = ()
    language: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training sentence retrieved for the input. ``similarity`` is the cosine similarity, -1 to 1."""

    sentence: Sentence
    similarity: float

    @property
    def language(self) -> str:
        return self.sentence.language or ""

    def to_dict(self) -> dict[str, Any]:
        """The sentence with its entities, its language and id, and the similarity."""
        return {
            "text": self.sentence.text,
            "language": self.language,
            "id": self.sentence.id,
            "similarity": round(self.similarity, _DIGITS),
            "entities": [entity.to_dict() for entity in self.sentence.entities],
        }


@dataclass(frozen=True, slots=True)
class KnownEntity:
    """A mention of the training data that occurs in the input, at ``text[start:end]``.

    ``counts`` maps language and label to the number of training mentions. ``similarity`` is 1.0 for an exact match and
    less for a near match, whose ``surface`` differs from ``text[start:end]``. ``inside`` counts longer training
    mentions that contain these words, if partial matches are enabled. If ``partial``, the words occur mostly inside
    such mentions: ``counts`` covers all mentions with these words, and ``surface`` is one of them. ``outside`` counts
    occurrences in the training data that touch no mention; 0 (not counted) for partial matches of several words.
    """

    start: int
    end: int
    surface: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=FrozenMapping)
    similarity: float = 1.0
    inside: int = 0
    partial: bool = False
    outside: int = 0

    def __post_init__(self) -> None:
        frozen = {language: _freeze(by_label) for language, by_label in self.counts.items()}
        object.__setattr__(self, "counts", FrozenMapping(frozen))

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
        """Whether the words occur more often inside longer mentions than as a mention."""
        return self.partial or self.inside > sum(self.label_counts().values())

    @property
    def mention_share(self) -> float:
        """Share of the words' occurrences in or as mentions, 0 to 1: Mihalcea and Csomai's (2007) "keyphraseness"."""
        mentions = sum(self.label_counts().values()) + (0 if self.partial else self.inside)
        return mentions / (mentions + self.outside) if mentions else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return {
            "start": self.start,
            "end": self.end,
            "surface": self.surface,
            "similarity": round(self.similarity, _DIGITS),
            "inside": self.inside,
            "outside": self.outside,
            "partial": self.partial,
            "counts": {language: dict(counts) for language, counts in self.counts.items()},
        }


@dataclass(frozen=True, slots=True)
class LanguageMatch:
    """One input beside the training sentences of one language.

    ``similarity`` is that of the nearest sentence, of ``sentences`` different ones. The letters of the input have the
    log-probability ``likelihood`` under a character model of the language; ``fit`` says how usual that is there, in
    standard deviations, negative for unusual, and is None for an input without letters. ``foreign`` is the share of the
    letters in scripts that the language is not written in.
    """

    similarity: float
    sentences: int = 1
    likelihood: float = 0.0
    fit: float | None = None
    foreign: float = 0.0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Retrieval results for one input: the context level and the entity level.

    ``languages`` holds what routing needs of each language; empty where it was not asked for, and for a text of
    several windows.
    """

    neighbours: tuple[Neighbour, ...] = ()
    entities: tuple[KnownEntity, ...] = ()
    languages: Mapping[str, LanguageMatch] = field(default_factory=FrozenMapping)

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", _freeze(self.languages))

    def only(self, levels: Collection[Level]) -> Knowledge:
        """Without the levels that are not in ``levels``."""
        return replace(
            self,
            neighbours=self.neighbours if "context" in levels else (),
            entities=self.entities if "entity" in levels else (),
        )

    def to_dict(self) -> dict[str, Any]:
        """``{"neighbours", "entities"}``: what was retrieved."""
        return {
            "neighbours": [neighbour.to_dict() for neighbour in self.neighbours],
            "entities": [known.to_dict() for known in self.entities],
        }


@dataclass(frozen=True, slots=True)
class Route:
    """The adapters that run and their weights (``adapters`` sums to 1, or is empty for the backbone alone).

    ``votes`` are the shares of the languages; ``reason`` is one of ``"vote"`` (one language is clearly ahead),
    ``"mixture"`` (several are close), ``"fixed"`` (the caller chose), ``"unknown"`` (the text is in no language that
    has an adapter: the backbone runs alone), ``"no_letters"`` (nothing in the text can be a name, and no model ran),
    ``"fallback"`` (there is no knowledge to choose by).
    """

    adapters: Mapping[str, float] = field(default_factory=FrozenMapping)
    votes: Mapping[str, float] = field(default_factory=FrozenMapping)
    reason: str = "vote"

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", _freeze(self.adapters))
        object.__setattr__(self, "votes", _freeze(self.votes))

    @property
    def language(self) -> str | None:
        """The language with the largest adapter weight; None for a text in an unknown language or without letters."""
        if self.reason == "unknown" or not self.adapters:
            return None
        return max(self.adapters, key=lambda name: (self.adapters[name], name))

    def to_dict(self) -> dict[str, Any]:
        """``{"adapters", "votes", "reason"}``, the largest shares first."""
        return {"adapters": _shares(self.adapters), "votes": _shares(self.votes), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class AnswerFaults:
    """Errors in a written answer; all zero under the grammar.

    ``malformed``: lines that do not parse (an answer without an end counts as one). ``invented``: mentions that do not
    occur in the text, or not that often. ``unknown``: labels that the model does not have.
    """

    malformed: int = 0
    invented: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """The entities of one text, sorted by start, with the route and knowledge used.

    ``faults`` are the errors in the written answer; None for the tagging decoder. ``prompts`` are the full prompts of
    the text's windows, if they were asked for. ``windows`` is the number of windows with letters that the text was read
    in, and ``unknown_windows`` of those in a language without an adapter, which the mean in ``route`` does not show;
    both are 0 where nobody counted. ``print(prediction)`` is short, and a notebook shows the text with its entities
    marked.
    """

    text: str
    entities: tuple[Entity, ...]
    route: Route
    knowledge: Knowledge = field(repr=False)
    faults: AnswerFaults | None = None
    prompts: tuple[str, ...] = ()
    windows: int = field(default=0, compare=False)
    unknown_windows: int = field(default=0, compare=False)

    def only(self, labels: Collection[str], threshold: float = 0.0) -> Prediction:
        """With the entities of these labels and at least this probability."""
        kept = (each for each in self.entities if each.label in labels and (each.score or 0.0) >= threshold)
        return replace(self, entities=tuple(kept))

    def to_dict(self, *, knowledge: bool = False) -> dict[str, Any]:
        """Plain data for JSON: ``{"text", "entities", "route", "language"}``, with ``knowledge`` what was retrieved."""
        plain: dict[str, Any] = {
            "text": self.text,
            "entities": [entity.to_dict() for entity in self.entities],
            "route": self.route.to_dict(),
            "language": self.route.language,
        }
        if knowledge:
            plain["knowledge"] = self.knowledge.to_dict()
        return plain

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per entity: ``{"text", "language", "start", "end", "label", "entity", "score"}``.

        A text without entities has one row, in which the last five are None.
        """
        head = {"text": self.text, "language": self.route.language}
        if not self.entities:
            return [head | dict.fromkeys(("start", "end", "label", "entity", "score"))]
        return [
            head
            | {"start": each.start, "end": each.end, "label": each.label, "entity": each.text}
            | {"score": None if each.score is None else round(each.score, _DIGITS)}
            for each in self.entities
        ]

    def __str__(self) -> str:
        from retrieveall.markup import shorten, visible

        lines = [shorten(self.text, _SHOWN_TEXT), *map(_entity_line, self.entities[:_SHOWN_ENTITIES])]
        if not self.entities:
            lines.append("  no entities")
        if len(self.entities) > _SHOWN_ENTITIES:
            lines.append(f"  ... and {len(self.entities) - _SHOWN_ENTITIES:,} more")
        return visible("\n".join(lines))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from retrieveall.markup import notebook_html

        return notebook_html(self.text, self.entities)


def to_dicts(predictions: Prediction | Iterable[Prediction], *, knowledge: bool = False) -> list[dict[str, Any]]:
    """Predictions as plain data, one dict per text; see ``Prediction.to_dict``. A single one is a list of one.

    Raises:
        InputError: no predictions.
    """
    return [prediction.to_dict(knowledge=knowledge) for prediction in _predictions(predictions)]


def _predictions(predictions: Any) -> Iterator[Prediction]:
    """Each prediction, checked when it is reached; a single one is a list of one."""
    if isinstance(predictions, Prediction):
        predictions = (predictions,)
    expected = "expected predictions, as RetrieveAll.predict returns them"
    if isinstance(predictions, (str, bytes, Mapping)) or not isinstance(predictions, Iterable):
        raise InputError(f"{expected}, got {type(predictions).__name__}")
    for number, each in enumerate(predictions):
        if not isinstance(each, Prediction):
            raise InputError(f"{expected}, got {type(each).__name__} as number {number} (the first is 0)")
        yield each


def to_rows(predictions: Prediction | Iterable[Prediction]) -> list[dict[str, Any]]:
    """Predictions as a flat table: one row per entity, or one for a text without; see ``Prediction.to_rows``.

    ``"row"`` counts the texts from 0, so that the rows can be joined with the texts. A single prediction is a list of
    one.

    Raises:
        InputError: no predictions.

    Examples:
        >>> pandas.DataFrame(to_rows(model.predict(frame["text"].tolist())))
    """
    return [{"row": number} | row for number, each in enumerate(_predictions(predictions)) for row in each.to_rows()]


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: round(weights[name], _DIGITS) for name in sorted(weights, key=lambda n: (-weights[n], n))}


def _entity_line(entity: Entity) -> str:
    from retrieveall.markup import shorten

    score = "" if entity.score is None else f"  {entity.score:.3f}"
    return f"  {entity.label:<5} {shorten(entity.text, 80)}  {entity.start}-{entity.end}{score}"
