"""Texts with their entities marked, for people to look at: in a terminal, a notebook or a page.

Entities are anything with ``start``, ``end``, ``label`` and ``score``, so that the core types can use this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Protocol, TypeVar
from zlib import crc32

__all__ = [
    "Span",
    "describe_span",
    "hue_of",
    "mark_html",
    "notebook_html",
    "safe_html",
    "shorten",
    "stretches",
    "visible",
]


class Span(Protocol):
    """A labelled span of a text, end exclusive; ``score`` is a probability or None."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def score(self) -> float | None: ...


S = TypeVar("S", bound=Span)

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


def stretches(text: str, entities: Sequence[S]) -> Iterator[tuple[str, S | None]]:
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


def safe_html(text: str) -> str:
    """``text`` as HTML, without control characters."""
    return escape(visible(text), quote=True)


def hue_of(label: str) -> int:
    """The colour of a label where no list of labels is at hand: a hue in degrees."""
    return crc32(label.encode("utf-8", "replace")) % 360


def describe_span(span: Span) -> str:
    """``PER, characters 0 to 12, probability 0.998``."""
    score = "" if span.score is None else f", probability {span.score:.3f}"
    return f"{span.label}, characters {span.start} to {span.end}{score}"


def mark_html(text: str, entities: Sequence[S], mark: Callable[[str, S], str]) -> str:
    """``text`` as HTML; ``mark`` renders the segment of an entity."""
    return "".join(
        safe_html(stretch) if entity is None else mark(stretch, entity) for stretch, entity in stretches(text, entities)
    )


def shorten(text: str, length: int) -> str:
    """``text`` on one line, cut after ``length`` characters."""
    flat = " ".join(text[: 2 * length].split())
    return flat if len(flat) <= length and len(text) <= 2 * length else f"{flat[:length].rstrip()}..."


def notebook_html(text: str, entities: Sequence[Span]) -> str:
    """A paragraph with its own styles, since a notebook has no page to put them in."""
    marked = mark_html(text, entities, _notebook_mark)
    return f'<p dir="auto" style="white-space:pre-wrap;line-height:1.9;margin:0 0 .6em">{marked}</p>'


def _notebook_mark(stretch: str, span: Span) -> str:
    hue = hue_of(span.label)
    style = f"background:hsl({hue} 75% 86%);color:#1b1d22;border-radius:.3em;padding:.12em .3em;unicode-bidi:isolate"
    badge = f"font-size:.7em;margin-inline-start:.45em;color:hsl({hue} 70% 32%)"
    label = f'<b style="{badge}">{safe_html(span.label)}</b>'
    return f'<mark style="{style}" title="{safe_html(describe_span(span))}">{safe_html(stretch)}{label}</mark>'
