"""spaCy's training examples in JSON: ``[text, {"entities": [[start, end, label]]}]`` or objects with both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from retrieveall.data.formats.annotations import PAIR
from retrieveall.data.formats.base import Reading
from retrieveall.data.formats.json_format import JsonFormat, is_triple, span_of, triples
from retrieveall.data.formats.spans import Span
from retrieveall.data.json_values import check_object, check_string, kind_of, string
from retrieveall.types import Sentence

__all__ = ["SpacyJson"]


class SpacyJson(JsonFormat):
    """``entities`` as triples, ``ents`` as objects (displaCy, ``Doc.to_json``), pairs as in ``TRAIN_DATA``."""

    name = "spacy-jsonl"
    title = "spaCy JSONL"

    def fits(self, value: Any) -> bool:
        return any(map(_fits, self.parts(value)))

    def parts(self, value: Any) -> Iterable[Any]:
        """The pairs of ``{"annotations": [...]}``, which small annotation tools write; else the value."""
        pairs = value.get("annotations") if isinstance(value, dict) and "text" not in value else None
        if isinstance(pairs, list) and any(map(_is_pair, pairs)):
            return [pair for pair in pairs if pair is not None]
        return (value,)

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]]:
        if isinstance(value, list):
            value = _unpaired(value)
        text = string(check_object(value), "text")
        if not _has_ents(value):
            return text, triples(value.get("entities", []), "entities")
        items = value["ents"]
        if not isinstance(items, list):
            raise ValueError(f'expected "ents" as a list, got {kind_of(items)}')
        return text, [span_of(item) for item in items]

    def keys(self, value: Any) -> tuple[str, ...]:
        if _is_pair(value):
            return (PAIR,)
        return ("ents",) if isinstance(value, dict) and _has_ents(value) else ("entities",)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        spans = [[entity.start, entity.end, entity.label] for entity in sentence.entities]
        details = {"language": sentence.language, "id": sentence.id}
        return {"text": sentence.text, "entities": spans} | {key: kept for key, kept in details.items() if kept}


def _has_ents(value: dict[str, Any]) -> bool:
    return value.get("ents") is not None and "entities" not in value


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and isinstance(value[1].get("entities"), list)
    )


def _fits(value: Any) -> bool:
    if _is_pair(value):
        return True
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return False
    entities, ents = value.get("entities"), value.get("ents")
    if isinstance(entities, list):
        return bool(entities) and all(map(is_triple, entities))
    return isinstance(ents, list) and all(isinstance(item, dict) and "start" in item for item in ents)


def _unpaired(value: list[Any]) -> dict[str, Any]:
    if not _is_pair(value):
        raise ValueError('expected [text, {"entities": [[start, end, label]]}], got another list')
    return {"text": check_string(value[0], "text"), "entities": value[1]["entities"]}
