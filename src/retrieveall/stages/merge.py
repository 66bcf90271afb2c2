"""Merges the routes and the knowledge of a text's windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from retrieveall.stages.window import Window
from retrieveall.types import NO_LETTERS, Knowledge, KnownEntity, Neighbour, Route, Sentence

__all__ = ["merge_knowledge", "merge_routes"]


class Weighted(Protocol):
    """A window, or another stretch of a text; ``kept_words`` are its words that no other one has."""

    @property
    def kept_words(self) -> int: ...


def merge_routes(windows: Sequence[Weighted], routes: Sequence[Route]) -> Route:
    """The route of a single window; the word-weighted mean of several.

    A text is unknown if windows with most of its words are; its adapters are then the mean over those, and else
    over the others. Windows without letters do not count.
    """
    some = [pair for pair in zip(windows, routes, strict=True) if pair[1].reason != NO_LETTERS]
    # Beside a window that tells the language, one that falls back has no letters, and runs for its neighbour's sake.
    lettered = [pair for pair in some if pair[1].reason != "fallback"] or some
    if not lettered:
        return Route(reason=NO_LETTERS)
    if len(lettered) == 1:
        return lettered[0][1]
    total = max(1, sum(window.kept_words for window, _ in lettered))
    unknown = 2 * sum(window.kept_words for window, route in lettered if route.reason == "unknown") > total
    adapters: dict[str, float] = {}
    votes: dict[str, float] = {}
    for window, route in lettered:
        for name, weight in route.votes.items():
            votes[name] = votes.get(name, 0.0) + weight * window.kept_words / total
        if (route.reason == "unknown") is unknown:
            for name, weight in route.adapters.items():
                adapters[name] = adapters.get(name, 0.0) + weight * window.kept_words
    ran = sum(adapters.values())
    adapters = {name: weight / ran for name, weight in adapters.items()} if ran else {}
    if unknown:
        return Route(adapters, votes, "unknown")
    reasons = {route.reason for _, route in lettered} - {"unknown"}
    return Route(adapters, votes, reasons.pop() if len(reasons) == 1 else "mixture")


def merge_knowledge(windows: Sequence[Window], knowledge: Sequence[Knowledge]) -> Knowledge:
    """All results of the windows without duplicates, nearest first, with offsets in the original text."""
    if len(windows) == 1 and windows[0].offset == 0 and windows[0].source.text is windows[0].source.source:
        return knowledge[0]
    neighbours: dict[Sentence, Neighbour] = {}
    for neighbour in sorted(
        (neighbour for found in knowledge for neighbour in found.neighbours), key=lambda found: -found.similarity
    ):
        neighbours.setdefault(neighbour.sentence, neighbour)
    entities: dict[tuple[int, int], KnownEntity] = {}
    for window, found in zip(windows, knowledge, strict=True):
        for entity in found.entities:
            span = window.source.span(entity.start + window.offset, entity.end + window.offset)
            entities.setdefault(span, replace(entity, start=span[0], end=span[1]))
    return Knowledge(tuple(neighbours.values()), tuple(entities[key] for key in sorted(entities)))
