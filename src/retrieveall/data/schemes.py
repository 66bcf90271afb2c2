"""Converts tag sequences in IOB2, IOB1 and BIOES (or the letters of BILOU and BMES) to spans and back.

A span is ``(start, end, label)`` in words, end exclusive. Ill-formed sequences are decoded as by ``conlleval`` and
seqeval's default mode: a tag that continues no span starts a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

from retrieveall.errors import InputError

__all__ = [
    "SCHEMES",
    "Scheme",
    "Span",
    "detect_scheme",
    "ill_formed",
    "spans_to_tags",
    "split_tag",
    "tags_to_spans",
]

Scheme: TypeAlias = Literal["iob2", "iob1", "bioes"]
Span: TypeAlias = tuple[int, int, str]

SCHEMES: tuple[Scheme, ...] = ("iob2", "iob1", "bioes")
_PREFIXES: dict[Scheme, frozenset[str]] = {
    "iob2": frozenset("OBI"),
    "iob1": frozenset("OBI"),
    "bioes": frozenset("OBIES"),
}
_TAG = re.compile(r"([BIESLUM])-(?![BI]-)([^\s\x00-\x1f\x7f\ud800-\udfff/\\]{1,64})")
_OTHER_LETTERS = {"L": "E", "U": "S", "M": "I"}


@lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str]:
    """Split a tag into prefix and label; BILOU's ``L`` and ``U`` become ``E`` and ``S``, BMES's ``M`` becomes ``I``.

    Raises:
        InputError: for anything but ``O`` and ``<prefix>-<label>``; a label that begins with ``B-`` or ``I-`` is a tag.
    """
    if tag == "O":
        return "O", ""
    match = _TAG.fullmatch(tag)
    if match is None or match[2] == "O":
        raise InputError(f"expected a tag such as 'O', 'B-PER' or 'I-PER', got {tag[:80]!r}; correct the tag")
    return _OTHER_LETTERS.get(match[1], match[1]), match[2]


def _split(tags: Iterable[str], scheme: Scheme) -> list[tuple[str, str]]:
    if scheme not in _PREFIXES:
        raise InputError(f"expected a tag scheme out of {', '.join(SCHEMES)}, got {scheme!r}")
    pairs = [split_tag(tag) for tag in tags]
    for prefix, label in pairs:
        if prefix not in _PREFIXES[scheme]:
            raise InputError(
                f"expected tags of the scheme {scheme}, got '{prefix}-{label}'; "
                f"choose the scheme 'bioes' or correct the tag"
            )
    return pairs


def _continues(pairs: Sequence[tuple[str, str]], i: int) -> bool:
    """Whether tag ``i`` belongs to the same span as the previous tag, in every scheme."""
    if i <= 0 or i >= len(pairs) or pairs[i][0] not in "IE":
        return False
    return pairs[i - 1][0] in "BI" and pairs[i - 1][1] == pairs[i][1]


def tags_to_spans(tags: Sequence[str], scheme: Scheme = "bioes") -> list[Span]:
    """The spans of a tag sequence, ascending.

    Args:
        tags: one tag per word.
        scheme: which prefixes are allowed. The spans do not depend on it: ``bioes`` reads all three schemes.

    Raises:
        InputError: a malformed tag, or one outside the scheme.
    """
    pairs = _split(tags, scheme)
    spans: list[Span] = []
    for i, (prefix, label) in enumerate(pairs):
        if prefix == "O":
            continue
        if _continues(pairs, i):
            spans[-1] = (spans[-1][0], i + 1, label)
        else:
            spans.append((i, i + 1, label))
    return spans


def ill_formed(tags: Sequence[str], scheme: Scheme) -> list[int]:
    """Positions of the tags that break the rules of ``scheme``, ascending; empty for a well-formed sequence.

    - iob2: an ``I-`` that continues no span of its label.
    - iob1: a ``B-`` that does not follow a span of its label, where ``I-`` is required.
    - bioes: an ``I-`` or ``E-`` that continues no span; a ``B-`` or ``I-`` that is not continued.

    Raises:
        InputError: a malformed tag, or one outside the scheme.
    """
    pairs = _split(tags, scheme)
    if scheme == "iob2":
        return _break_iob2(pairs)
    if scheme == "iob1":
        return _break_iob1(pairs)
    return [
        i
        for i, (prefix, _) in enumerate(pairs)
        if (prefix in "IE" and not _continues(pairs, i)) or (prefix in "BI" and not _continues(pairs, i + 1))
    ]


def _break_iob2(pairs: Sequence[tuple[str, str]]) -> list[int]:
    return [i for i, (prefix, _) in enumerate(pairs) if prefix == "I" and not _continues(pairs, i)]


def _break_iob1(pairs: Sequence[tuple[str, str]]) -> list[int]:
    return [i for i, (prefix, label) in enumerate(pairs) if prefix == "B" and (i == 0 or pairs[i - 1][1] != label)]


def spans_to_tags(spans: Iterable[Span], length: int, scheme: Scheme = "iob2") -> list[str]:
    """The tags of ``length`` words, the inverse of ``tags_to_spans``.

    Raises:
        InputError: a span that is empty, outside the words, or overlaps another; an unknown scheme.
    """
    if scheme not in _PREFIXES:
        raise InputError(f"expected a tag scheme out of {', '.join(SCHEMES)}, got {scheme!r}")
    tags = ["O"] * length
    previous: Span = (0, 0, "")
    for start, end, label in sorted(spans):
        if not previous[1] <= start < end <= length:
            raise InputError(
                f"expected spans without overlap inside {length} words, got ({start}, {end}, {label!r}) "
                f"after {previous}"
            )
        split_tag(f"B-{label}")
        tags[start:end] = [f"I-{label}"] * (end - start)
        if (
            scheme == "iob2"
            or (scheme == "bioes" and end - start > 1)
            or (scheme == "iob1" and previous[1:] == (start, label))
        ):
            tags[start] = f"B-{label}"
        if scheme == "bioes":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{label}"
        previous = (start, end, label)
    return tags


def detect_scheme(tags: Iterable[str]) -> Scheme:
    """Detect the scheme of a sequence of tags; put an ``O`` between sentences.

    ``bioes`` if one of its own letters occurs; else IOB1 or IOB2, whichever has fewer violations; ``iob2`` in a tie.

    Raises:
        InputError: a malformed tag.
    """
    pairs = [("O", ""), *(split_tag(tag) for tag in tags)]
    if any(prefix in "ES" for prefix, _ in pairs):
        return "bioes"
    return "iob1" if len(_break_iob1(pairs)) < len(_break_iob2(pairs)) else "iob2"
