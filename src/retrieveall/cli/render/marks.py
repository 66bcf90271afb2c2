"""Text as it may be shown: control characters visible, entities cut out, routes and counts in words.

Knows neither terminals nor HTML, whose escaping is left to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from retrieveall.types import Entity, KnownEntity, Route

__all__ = ["counts_line", "likeness", "route_line", "shares", "stretches", "visible"]

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` of the same length without what drives a terminal: a symbol stands for each control character.

    Tabs and line feeds stay; a lone surrogate, which no stream can carry, becomes U+FFFD.
    """
    return _HIDDEN.sub(_symbol, text)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the block "Control Pictures" follows ASCII
    return "\u2421" if code == 0x7F else "\ufffd"


def stretches(text: str, entities: Sequence[Entity]) -> Iterator[tuple[str, Entity | None]]:
    """``text`` in order, cut at the entities, which are sorted; joined, the stretches are ``text`` again.

    An entity that begins inside the one before it is left out: marks do not overlap.
    """
    position = 0
    for entity in entities:
        if entity.start < position:
            continue
        if entity.start > position:
            yield text[position : entity.start], None
        yield text[entity.start : entity.end], entity
        position = entity.end
    if position < len(text):
        yield text[position:], None


def route_line(route: Route) -> str:
    """The adapters with their weights, why they were chosen, and the votes."""
    votes = f" · votes {shares(route.votes)}" if route.votes else ""
    return f"adapters {shares(route.adapters) or 'none, the backbone alone'} ({route.reason}){votes}"


def shares(weights: Mapping[str, float]) -> str:
    """``de 0.83, en 0.17``, the largest first."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {weight:.2f}" for name, weight in ordered)


def likeness(known: KnownEntity) -> str:
    """How much of a known mention stands in the text: its similarity, or ``part`` of it."""
    return "part" if known.partial else f"{known.similarity:.3f}"


def counts_line(known: KnownEntity) -> str:
    """``LOC 12 en, LOC 3 de``: as what, how often and in which language a mention was seen in training."""
    return ", ".join(
        f"{label} {count} {language}"
        for language, by_label in known.counts.items()
        for label, count in by_label.items()
    )
