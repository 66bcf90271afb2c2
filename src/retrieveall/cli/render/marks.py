"""Helpers for display: visible control characters, entity segments, routes and counts as text.

Escaping for HTML is left to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from retrieveall.types import Entity, KnownEntity, Route

__all__ = ["counts_line", "likeness", "route_line", "shares", "stretches", "visible"]

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` with a symbol in place of each control character, at the same length.

    Tabs and line feeds are kept; a lone surrogate, which cannot be encoded, becomes U+FFFD.
    """
    return _HIDDEN.sub(_symbol, text)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the block "Control Pictures" has the order of ASCII
    return "\u2421" if code == 0x7F else "\ufffd"


def stretches(text: str, entities: Sequence[Entity]) -> Iterator[tuple[str, Entity | None]]:
    """Segments of ``text`` in order, each with its entity or None; joined, they are ``text``.

    ``entities`` are sorted; one that begins inside the previous one is skipped.
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
    """The similarity of a match, or ``part`` for a partial match."""
    return "part" if known.partial else f"{known.similarity:.3f}"


def counts_line(known: KnownEntity) -> str:
    """``LOC 12 en, LOC 3 de``: the mention's training counts by label and language."""
    return ", ".join(
        f"{label} {count} {language}"
        for language, by_label in known.counts.items()
        for label, count in by_label.items()
    )
