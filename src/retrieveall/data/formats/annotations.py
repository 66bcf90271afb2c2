"""Finds entities in a JSON record under the key of any format, so that none of them is passed over.

Files of several formats are joined, and records are written by several tools: a record may hold its entities under
another key than that of the format by which the file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from retrieveall.data.hub import TAG_COLUMNS, TOKEN_COLUMNS

__all__ = ["PAIR", "Annotation", "annotations_in", "check_all_read", "check_none_unknown", "is_triple", "unknown_keys"]

_TITLES = {
    "jsonl": "JSONL of this library",
    "doccano": "doccano JSONL",
    "doccano-relations": "doccano JSONL with relations",
    "prodigy": "Prodigy JSONL",
    "label-studio": "Label Studio JSON",
    "spacy-jsonl": "spaCy JSONL",
    "datasets": "Hugging Face datasets",
    "gliner": "GLiNER JSON",
}
_OF_KEY = {"spans": "prodigy", "ents": "spacy-jsonl"}
_OTHER = frozenset({"text", "entities", "language", "id", "meta", "metadata", "relations", "Comments", "comments"})
_RESULTS = ("annotations", "completions")
_LABELS = ("label", "labels", "entity_group")
PAIR = "[text, …]"
"""The place of the entities in spaCy's pairs, which have no key."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Entities of a record: the ``key`` they are under, and the ``form``, the name of the format that has them so.

    ``spans`` are their offsets and labels, or None where they have none, as tokens with tags.
    """

    key: str
    form: str
    spans: frozenset[tuple[int, int, str]] | None = None


def annotations_in(value: Any) -> list[Annotation]:
    """All entities of a record; none of an empty list, and none of text labels, tokens, relations, comments."""
    if isinstance(value, list):
        pair = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
        return [Annotation(PAIR, "spacy-jsonl")] if pair and any(map(_filled, value[1].values())) else []
    if not isinstance(value, dict):
        return []
    found = [each for key, items in value.items() for each in _under(key, items, value)]
    tags = _tag_column(value)
    return found if tags is None else [*found, Annotation(tags, "datasets")]


def check_all_read(value: Any, own: Collection[str], name: str, title: str) -> None:
    """Refuse a record with entities that a format does not read.

    Entities that are written again under another key are no loss, and no error.

    Args:
        own: the keys under which the format reads entities, the first of them its usual one.
        name: of the format.
        title: of the format.

    Raises:
        ValueError: names both keys, and what to do.
    """
    found = annotations_in(value)
    read = [each for each in found if each.key in own]
    lost = next((each for each in found if each.key not in own and not _is_again(each, read)), None)
    if lost is None:
        return
    usual = next(iter(own))
    expected = f'expected entities under "{usual}" as in {title}, got them under "{lost.key}"'
    if isinstance(value, dict) and usual in value:
        raise ValueError(f"{expected} too; keep one of the two keys, or convert the file with --from")
    form = f" as in {_TITLES[lost.form]}" if lost.form != name else ""
    raise ValueError(f"{expected}{form}; split the file by format, and convert each part")


def check_none_unknown(value: Mapping[str, Any], usual: str) -> None:
    """Refuse a record without the key ``usual`` that may have entities in a form that no format knows.

    Raises:
        ValueError: names the keys.
    """
    unknown = unknown_keys(value)
    if unknown:
        raise ValueError(
            f'expected the key "{usual}", got {", ".join(map(repr, unknown))[:80]}, of a format that is not known; see '
            "docs/corpora.md for those that are"
        )


def unknown_keys(value: Mapping[str, Any]) -> list[str]:
    """Keys with lists or objects, which may be annotation that nobody would read."""
    return [key for key, other in value.items() if key not in _OTHER and other and isinstance(other, list | dict)]


def is_triple(item: Any) -> bool:
    """Whether an item is ``[start, end, label]``."""
    return isinstance(item, list) and len(item) >= 3 and type(item[0]) is type(item[1]) is int


def _under(key: str, items: Any, value: Mapping[str, Any]) -> list[Annotation]:
    if not isinstance(items, list) or not items:
        return []
    if all(is_triple(item) and isinstance(item[2], str) for item in items):
        form = "gliner" if "tokenized_text" in value else "spacy-jsonl" if key == "entities" else "doccano"
        spans = None if form == "gliner" else frozenset((start, end, label) for start, end, label, *_ in items)
        return [Annotation(key, form, spans)]
    if all(map(_is_span, items)):
        return [Annotation(key, _form(key, items[0]), _spans(items))]
    if key in _RESULTS and isinstance(value.get("data"), dict) and any(map(_has_result, items)):
        return [Annotation(key, "label-studio")]
    if key in _RESULTS and any(map(annotations_in, (item for item in items if isinstance(item, list)))):
        return [Annotation(key, "spacy-jsonl")]
    return []


def _is_span(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and any(key in item for key in _LABELS)
        and any(isinstance(item.get(key), int) for key in ("start", "start_offset", "start_char"))
    )


def _spans(items: list[dict[str, Any]]) -> frozenset[tuple[int, int, str]] | None:
    """Offsets and labels; None if one of them has another form."""
    found = set()
    for item in items:
        suffix = "_offset" if "start_offset" in item else ""
        start, end, label = item.get(f"start{suffix}"), item.get(f"end{suffix}"), item.get("label")
        if not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str):
            return None
        found.add((start, end, label))
    return frozenset(found)


def _form(key: str, item: Mapping[str, Any]) -> str:
    if "start_offset" in item:
        return "doccano-relations"
    return "label-studio" if "labels" in item else _OF_KEY.get(key, "jsonl")


def _has_result(item: Any) -> bool:
    return isinstance(item, dict) and bool(item.get("result"))


def _filled(item: Any) -> bool:
    return isinstance(item, list) and bool(item)


def _tag_column(value: Mapping[str, Any]) -> str | None:
    """The key of the tags of tokens, with that of an entity among them, as a string or as the number of one."""
    tokens = next((value[key] for key in TOKEN_COLUMNS if isinstance(value.get(key), list)), None)
    if tokens is None:
        return None
    there = [key for key in TAG_COLUMNS if isinstance(value.get(key), list) and len(value[key]) == len(tokens)]
    for place, key in enumerate(there):  # numbers of a second column may be those of parts of speech
        numbers = place == 0 and any(type(item) is int and item > 0 for item in value[key])
        if numbers or any(isinstance(item, str) and item[1:2] == "-" for item in value[key]):
            return key
    return None


def _is_again(one: Annotation, read: Collection[Annotation]) -> bool:
    """Whether entities are also among those that are read; of tokens with tags it is enough that there are some."""
    if one.form in ("datasets", "gliner") or any(each.form in ("datasets", "gliner") for each in read):
        return bool(read)
    return one.spans is not None and any(each.spans is not None and one.spans <= each.spans for each in read)
