"""Turns spans as annotation tools write them into entities.

Repaired and counted: blanks at the edges of a span and spans of nothing but white space; the same span twice; a span
that overlaps a longer one (or an earlier one of the same length); blanks in a label; offsets in UTF-16 units or UTF-8
bytes, where the span's text shows it. Everything else that does not fit is an error, also a tag as a label: an entity
of two words would be two.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from retrieveall.data.formats.base import Notes
from retrieveall.data.schemes import split_tag
from retrieveall.errors import InputError
from retrieveall.types import Entity

__all__ = ["BYTES", "CODE_POINTS", "UTF16", "Span", "entities_of"]

CODE_POINTS = "code points"
UTF16 = "UTF-16 units"
BYTES = "UTF-8 bytes"

_BLANKS = re.compile(r"\s+")
_BLANKS_AS_WRITTEN = re.compile(r"(?:\\[nrt]|\s)+")  # some exports write a line break of the text as \n
_LIKE_TAG = re.compile(r"[ESLUM]-")
_WIDTH: dict[str, Callable[[str], int]] = {
    UTF16: lambda character: 2 if character > "\uffff" else 1,
    BYTES: lambda character: len(character.encode("utf-8")),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it was written; ``surface`` is its text, if written too."""

    start: int
    end: int
    label: str
    surface: str | None = None


def entities_of(
    text: str, spans: Sequence[Span], where: str, notes: Notes, *, units: Sequence[str] = (CODE_POINTS, UTF16, BYTES)
) -> tuple[Entity, ...]:
    """The entities of a text, sorted, without overlap.

    Args:
        units: what offsets count: the first, or one of the others where every span is written with its text and
            agrees with it.

    Raises:
        ValueError: a span outside the text or empty, a text that is not the span's, a label that cannot be one.
    """
    found: list[Entity] = []
    for span in _in_code_points(text, spans, where, notes, units):
        entity = _trimmed(text, span, where, notes)
        if entity is not None:
            found.append(entity)
    return _without_overlap(found, where, notes)


def _in_code_points(text: str, spans: Sequence[Span], where: str, notes: Notes, units: Sequence[str]) -> list[Span]:
    proven = all(span.surface is not None for span in spans)
    for unit in units if proven else units[:1]:
        converted = _converted(text, spans, unit)
        if converted is not None and all(_agrees(text, span) for span in converted):
            if unit != units[0] and converted != list(spans):
                notes.add(f"texts with offsets in {unit}, converted", where, text)
            return converted
    for span in spans:
        _check(text, span)
    return list(spans)


def _converted(text: str, spans: Sequence[Span], unit: str) -> list[Span] | None:
    """The spans with offsets in code points; None if one is not at a character of the text."""
    if unit == CODE_POINTS or text.isascii():
        return list(spans)
    starts = {offset: i for i, offset in enumerate(accumulate(map(_WIDTH[unit], text), initial=0))}
    if not all(span.start in starts and span.end in starts for span in spans):
        return None
    return [replace(span, start=starts[span.start], end=starts[span.end]) for span in spans]


def _agrees(text: str, span: Span) -> bool:
    if not 0 <= span.start < span.end <= len(text):
        return False
    found = text[span.start : span.end]
    if span.surface is None or span.surface == found:
        return True
    return _BLANKS_AS_WRITTEN.sub(" ", span.surface).strip() == _BLANKS_AS_WRITTEN.sub(" ", found).strip()


def _check(text: str, span: Span) -> None:
    """Raise for a span that is not in the text, or not its own text there."""
    if not 0 <= span.start < span.end <= len(text):
        raise ValueError(
            f"expected 0 <= start < end <= {len(text)}, the length of the text, got start {span.start} and end "
            f"{span.end} in {text[:40]!r}; offsets are code points, end exclusive{_hint(text, span)}"
        )
    if not _agrees(text, span):
        raise ValueError(
            f"expected {text[span.start : span.end][:40]!r}, the text at {span.start} to {span.end}, got the entity "
            f"text {str(span.surface)[:40]!r}; offsets are code points, not bytes"
        )


def _hint(text: str, span: Span) -> str:
    if 0 <= span.start < span.end:
        for unit, width in _WIDTH.items():
            if len(text) < span.end <= sum(map(width, text)):
                return f", and these may be {unit}"
    return ""


def _trimmed(text: str, span: Span, where: str, notes: Notes) -> Entity | None:
    """The entity without white space at its edges; None if nothing is left."""
    written = text[span.start : span.end]
    surface = written.strip()
    if not surface:
        notes.add("spans of white space left out", where, text)
        return None
    if surface != written:
        notes.add("spans cut to their text, without the blanks at the edges", where, written)
    start = span.start + len(written) - len(written.lstrip())
    return Entity(start, start + len(surface), _label(span.label, where, notes), surface)


def _label(label: str, where: str, notes: Notes) -> str:
    written = _BLANKS.sub("_", label.strip())
    if written[:2] in ("B-", "I-"):
        raise ValueError(
            f"expected the label of a whole entity, got {label[:80]!r}, the tag of a word; write each entity as one "
            "span with its label alone"
        )
    try:
        split_tag(f"B-{written}")
    except InputError:
        raise ValueError(
            f"expected a label of 1 to 64 characters without slashes and not 'O', got {label[:80]!r}; rename it"
        ) from None
    if _LIKE_TAG.match(written):  # may be one, but E-MAIL and S-100 are labels
        notes.add(f"spans with the label {written!r}, read as it is although it looks like a tag", where)
    if written != label:
        notes.add(f"spans with the label {label!r}, read as {written!r}", where)
    return written


def _without_overlap(found: Sequence[Entity], where: str, notes: Notes) -> tuple[Entity, ...]:
    """Of overlapping entities the longest stays, of equally long ones the first."""
    kept: list[Entity] = []
    for entity in sorted(found, key=lambda each: (each.start - each.end, each.start)):
        place = bisect_left(kept, entity.start, key=_start)
        around = kept[max(0, place - 1) : place + 1]
        if entity in around:
            notes.add("spans written twice, read once", where, entity.text)
        elif any(each.start < entity.end and entity.start < each.end for each in around):
            notes.add("spans left out that overlap a longer or an earlier one", where, entity.text)
        else:
            kept.insert(place, entity)
    return tuple(kept)


def _start(entity: Entity) -> int:
    return entity.start
