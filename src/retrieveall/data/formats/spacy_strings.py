"""The numbers by which spaCy stores strings: MurmurHash64A of the text, or the number of one of its own names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["NAMES", "string_id", "strings_by_id"]

_MASK = 2**64 - 1
_FACTOR = 0xC6A4A7935BD1E995
_SEED = 1
_SHIFT = 47


def _numbered(first: int, names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


NAMES: dict[str, int] = (
    _numbered(
        1,
        "IS_ALPHA IS_ASCII IS_DIGIT IS_LOWER IS_PUNCT IS_SPACE IS_TITLE IS_UPPER LIKE_URL LIKE_NUM LIKE_EMAIL IS_STOP "
        "IS_OOV_DEPRECATED IS_BRACKET IS_QUOTE IS_LEFT_PUNCT IS_RIGHT_PUNCT IS_CURRENCY",
    )
    | _numbered(
        64,
        "ID ORTH LOWER NORM SHAPE PREFIX SUFFIX LENGTH CLUSTER LEMMA POS TAG DEP ENT_IOB ENT_TYPE HEAD SENT_START "
        "SPACY PROB LANG ADJ ADP ADV AUX CONJ CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X EOL SPACE",
    )
    | _numbered(
        380,
        "PERSON NORP FACILITY ORG GPE LOC PRODUCT EVENT WORK_OF_ART LANGUAGE LAW DATE TIME PERCENT MONEY QUANTITY "
        "ORDINAL CARDINAL acomp advcl advmod agent amod appos attr aux auxpass cc ccomp complm conj cop csubj "
        "csubjpass dep det dobj expl hmod hyph infmod intj iobj mark meta neg nmod nn npadvmod nsubj nsubjpass num "
        "number oprd obj obl parataxis partmod pcomp pobj poss possessive preconj prep prt punct quantmod relcl rcmod "
        "root xcomp acl ENT_KB_ID MORPH ENT_ID IDX _",
    )
)
"""spaCy's own names, whose numbers are the same in versions 2.2 to 3."""


@lru_cache(maxsize=2**16)
def string_id(text: str) -> int:
    """The number of a string; 0 for the empty one."""
    return NAMES.get(text) or (_murmur(text.encode("utf-8")) if text else 0)


def strings_by_id(strings: Iterable[str]) -> dict[int, str]:
    """Strings by their numbers, with spaCy's own names."""
    found = {number: name for name, number in NAMES.items()}
    found.update((string_id(text), text) for text in strings)
    found[0] = ""
    return found


def _murmur(data: bytes) -> int:
    """Austin Appleby's MurmurHash64A, which is in the public domain."""
    value = (_SEED ^ (len(data) * _FACTOR)) & _MASK
    whole = len(data) - len(data) % 8
    for i in range(0, whole, 8):
        part = (int.from_bytes(data[i : i + 8], "little") * _FACTOR) & _MASK
        part = ((part ^ (part >> _SHIFT)) * _FACTOR) & _MASK
        value = ((value ^ part) * _FACTOR) & _MASK
    if whole < len(data):
        value = ((value ^ int.from_bytes(data[whole:], "little")) * _FACTOR) & _MASK
    value = ((value ^ (value >> _SHIFT)) * _FACTOR) & _MASK
    return value ^ (value >> _SHIFT)
