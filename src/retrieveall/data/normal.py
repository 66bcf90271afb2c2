"""Text normalisation, with offsets back to the original text.

The same letters have several encodings: decomposed accents and Hangul from macOS and PDF files, half-width and
full-width forms, ligatures, mathematical letters. Normalised, they are the same to model, encoder and index.

The form is NFC, and NFKC for the characters whose compatibility mapping keeps the meaning (``_COMPATIBLE``).
Superscripts, fractions, circled letters, signs such as ™ or ㎏, Roman numerals, Hangul compatibility letters and
full-width punctuation (standard in Chinese and Japanese) are kept. Soft hyphens and a leading byte-order mark are
removed. The rules depend on Unicode properties only, not on the language.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import regex

from retrieveall.types import Entity, Sentence

__all__ = ["NormalText", "normalise", "normalise_sentence"]

_MAX_CLUSTER = 128
"""Longest cluster that is normalised, in characters; Python's NFC takes quadratic time in a run of combining marks."""

_HYPHEN, _MARK = "\u00ad", "\ufeff"  # soft hyphen, byte-order mark
_DROPPED = _HYPHEN + _MARK

_COMPATIBLE = "".join(
    (
        "\u00a0\u2007\u202f",  # no-break spaces
        # letters and digits in another font; not U+2139, the information sign
        "\u2102\u210a-\u2113\u2115\u2119-\u211d\u2124\u2128\u212c\u212d\u212f-\u2134\u213c-\u2140\u2145-\u2149",
        "\U0001d400-\U0001d7ff\U0001ee00-\U0001eeff\U0001fbf0-\U0001fbf9",
        "\ufb00-\ufb06\ufb13-\ufb17",  # Latin and Armenian ligatures
        "\ufb20-\ufb28\ufb4f",  # Hebrew presentation forms; NFC covers the others
        "\ufb50-\ufdfb\ufe70-\ufefc",  # Arabic presentation forms
        "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a",  # full-width digits and Latin letters
        "\uff61-\uffdc",  # half-width CJK punctuation, katakana, Hangul letters
    )
)
_SPECIAL = re.compile(rf"[{_HYPHEN}{_COMPATIBLE}]")

# May compose with the character before it; U+FF9E and U+FF9F are the half-width voicing marks.
_JOIN = r"[\p{M}\p{NFC_QC=M}\uff9e\uff9f]"
_JOINS = rf"(?:{_HYPHEN}*+{_JOIN})"  # a soft hyphen is removed, so it does not separate characters
# Clusters that normalisation may change. Nothing composes across their borders.
_CLUSTER = regex.compile(
    rf"""(?V1)
      \A[{_DROPPED}]++
    | [[{_COMPATIBLE}\p{{NFC_QC=N}}]--{_JOIN}]{_JOINS}*+
    | [^{_HYPHEN}{_JOIN}]{_JOINS}++
    | {_HYPHEN}++
    | {_JOIN}{_JOINS}*+
    """.replace("\n", "").replace(" ", "")
)


class _Edges(NamedTuple):
    """Where each changed cluster starts and ends, ascending."""

    starts: array[int]
    ends: array[int]


@dataclass(frozen=True, slots=True)
class NormalText:
    """``text`` is the normal form of ``source``."""

    text: str
    source: str
    _changed: tuple[_Edges, _Edges] | None = field(default=None, compare=False, repr=False)  # in text, in source

    def span(self, start: int, end: int) -> tuple[int, int]:
        """``text[start:end]`` as offsets of ``source``.

        A span that begins or ends inside a changed cluster, such as the two letters of a ligature, is extended to the
        whole cluster. Removed characters at either end are excluded.
        """
        return _map_span(start, end, *self._changed) if self._changed else (start, end)

    def text_span(self, start: int, end: int) -> tuple[int, int]:
        """``source[start:end]`` as offsets of ``text``; the reverse of ``span``."""
        return _map_span(start, end, *self._changed[::-1]) if self._changed else (start, end)


def normalise(text: str) -> NormalText:
    """The normal form of ``text``.

    Idempotent, and linear in the length of any text.
    """
    if text.isascii() or _is_normal(text):
        return NormalText(text, text)
    pieces: list[str] = []
    new, old = _Edges(array("q"), array("q")), _Edges(array("q"), array("q"))
    done = size = 0  # characters of the text, and of its normal form
    for match in _CLUSTER.finditer(text):
        start, end = match.span()
        before = match.group()
        after = _normal_cluster(before) if before.strip(_DROPPED) else ""
        if after == before:
            continue
        pieces += text[done:start], after
        size += start - done
        new.starts.append(size)
        old.starts.append(start)
        size += len(after)
        new.ends.append(size)
        old.ends.append(end)
        done = end
    pieces.append(text[done:])
    return NormalText("".join(pieces), text, (new, old))


def normalise_sentence(sentence: Sentence) -> Sentence:
    """``sentence`` in normal form, with entity offsets updated; the same object if nothing changes.

    If two entities share a changed cluster, the first one gets it, so that they do not overlap.
    """
    normal = normalise(sentence.text)
    if normal.text == sentence.text:
        return sentence
    entities: list[Entity] = []
    taken = 0
    for entity in sentence.entities:
        start, end = normal.text_span(entity.start, entity.end)
        start = max(start, taken)
        if start < end:
            entities.append(replace(entity, start=start, end=end, text=normal.text[start:end]))
            taken = end
    return replace(sentence, text=normal.text, entities=tuple(entities))


def _is_normal(text: str) -> bool:
    return not text.startswith(_MARK) and _SPECIAL.search(text) is None and unicodedata.is_normalized("NFC", text)


def _normal_cluster(cluster: str) -> str:
    return cluster if len(cluster) > _MAX_CLUSTER else _compose(cluster)


@functools.lru_cache(maxsize=4096)  # clusters recur within a text
def _compose(cluster: str) -> str:
    return unicodedata.normalize("NFC", "".join(map(_mapped, cluster.replace(_HYPHEN, ""))))


def _mapped(char: str) -> str:
    """The compatibility mapping of a character of ``_COMPATIBLE``; other characters unchanged."""
    if not _SPECIAL.match(char):
        return char
    kind, *codes = unicodedata.decomposition(char).split() or [""]
    # Not for a spacing mark: it would become a space and a mark, and split the word.
    if not kind.startswith("<") or (len(codes) > 1 and codes[0] == "0020"):
        return char
    return "".join(chr(int(code, 16)) for code in codes)


def _map_span(start: int, end: int, here: _Edges, there: _Edges) -> tuple[int, int]:
    """Maps offsets of one text to the other, given the changed clusters in both."""
    left, right = start, end
    i = bisect_right(here.starts, start) - 1
    if i >= 0:
        left = there.starts[i] if start < here.ends[i] else there.ends[i] + start - here.ends[i]
    i = bisect_left(here.starts, end) - 1
    if i >= 0:
        right = there.ends[i] + max(0, end - here.ends[i])
    return left, max(left, right)
