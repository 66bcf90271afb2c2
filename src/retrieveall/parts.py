"""The windows of one text, and what they add up to: its words, its route and its knowledge. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from retrieveall.decoding import Window
from retrieveall.types import Knowledge, KnownEntity, Neighbour, Route, Sentence, Word

__all__ = ["Part", "merge_knowledge", "merge_routes", "words_of"]


@dataclass(slots=True)
class Part:
    """One window of a text: ``text`` is its stretch of the whole, which begins at character ``offset``."""

    text: str
    offset: int
    words: Sequence[Word]
    window: Window
    knowledge: Knowledge
    route: Route

    @property
    def kept_words(self) -> int:
        return self.window.keep_end - self.window.keep_start


def words_of(parts: Sequence[Part]) -> list[Word]:
    """The words of a text: what its windows keep, in order."""
    return [
        word
        for part in parts
        for word in part.words[part.window.keep_start - part.window.start : part.window.keep_end - part.window.start]
    ]


def merge_routes(parts: Sequence[Part]) -> Route:
    """The route of a text of one window is that window's; of more, the mean over its words."""
    if not parts:
        return Route(reason="fallback")
    if len(parts) == 1:
        return parts[0].route
    total = sum(part.kept_words for part in parts)
    adapters: dict[str, float] = {}
    votes: dict[str, float] = {}
    for part in parts:
        for target, source in ((adapters, part.route.adapters), (votes, part.route.votes)):
            for name, weight in source.items():
                target[name] = target.get(name, 0.0) + weight * part.kept_words / total
    reasons = {part.route.reason for part in parts}
    return Route(adapters, votes, reasons.pop() if len(reasons) == 1 else "mixture")


def merge_knowledge(parts: Sequence[Part]) -> Knowledge:
    """Everything that was found for the windows, once and nearest first, with offsets in the whole text."""
    if len(parts) == 1 and parts[0].offset == 0:
        return parts[0].knowledge
    neighbours: dict[Sentence, Neighbour] = {}
    for neighbour in sorted(
        (neighbour for part in parts for neighbour in part.knowledge.neighbours), key=lambda found: -found.similarity
    ):
        neighbours.setdefault(neighbour.sentence, neighbour)
    entities: dict[tuple[int, int], KnownEntity] = {}
    for part in parts:
        for entity in part.knowledge.entities:
            moved = replace(entity, start=entity.start + part.offset, end=entity.end + part.offset)
            entities.setdefault((moved.start, moved.end), moved)
    return Knowledge(tuple(neighbours.values()), tuple(entities[key] for key in sorted(entities)))
