"""Merges the routes and the knowledge of a text's windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retrieveall.stages.window import Window
from retrieveall.types import Knowledge, KnownEntity, Neighbour, Route, Sentence

__all__ = ["merge_knowledge", "merge_routes"]


def merge_routes(windows: Sequence[Window], routes: Sequence[Route]) -> Route:
    """The route of a single window; the word-weighted mean of several."""
    if not routes:
        return Route(reason="fallback")
    if len(routes) == 1:
        return routes[0]
    total = sum(window.kept_words for window in windows)
    adapters: dict[str, float] = {}
    votes: dict[str, float] = {}
    for window, route in zip(windows, routes, strict=True):
        for target, source in ((adapters, route.adapters), (votes, route.votes)):
            for name, weight in source.items():
                target[name] = target.get(name, 0.0) + weight * window.kept_words / total
    reasons = {route.reason for route in routes}
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
