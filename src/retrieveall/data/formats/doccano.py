"""doccano's two exports: labels as ``[start, end, label]``, and entities with relations between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retrieveall.data.formats.annotations import check_none_unknown
from retrieveall.data.formats.base import Reading
from retrieveall.data.formats.json_format import JsonFormat, is_triple, span_of, triples
from retrieveall.data.formats.spans import Span
from retrieveall.data.json_values import check_object, kind_of, string
from retrieveall.types import Sentence

__all__ = ["Doccano", "DoccanoRelations"]


class _Doccano(JsonFormat):
    """The text is under ``text``, in versions 1.0 to 1.4 under ``data``."""

    def text(self, value: Any) -> str:
        return string(check_object(value), "data" if "text" not in value and "data" in value else "text")

    def details(self, value: Any) -> tuple[str, Any]:
        """The ids that this library wrote are among the metadata, since doccano's own are numbers."""
        identifier, language = super().details(value)
        return str(value.get("source_id") or identifier), language


class Doccano(_Doccano):
    """``{"id": 1, "text": "…", "label": [[0, 4, "PER"]]}``; also with ``labels``, and without an id."""

    name = "doccano"
    title = "doccano JSONL"

    def fits(self, value: Any) -> bool:
        if not isinstance(value, dict) or not ({"text", "data"} & value.keys()):
            return False
        items = value.get(_key(value))
        return isinstance(items, list) and all(map(is_triple, items))

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]]:
        text = self.text(value)
        key = _key(value)
        if key not in value:
            check_none_unknown(value, key)
        return text, triples(value.get(key, []), key)

    def keys(self, value: Any) -> tuple[str, ...]:
        return (_key(value),)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        spans = [[entity.start, entity.end, entity.label] for entity in sentence.entities]
        return {"id": number, "text": sentence.text, "label": spans} | _metadata(sentence)


class DoccanoRelations(_Doccano):
    """``{"text": "…", "entities": [{"id", "start_offset", "end_offset", "label"}], "relations": […]}``."""

    name = "doccano-relations"
    title = "doccano JSONL with relations"

    def fits(self, value: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(value.get("entities"), list):
            return False
        items = value["entities"]
        return all(isinstance(item, dict) and "start_offset" in item for item in items) and (
            bool(items) or isinstance(value.get("relations"), list)
        )

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]]:
        text = self.text(value)
        items = value.get("entities", [])
        if "entities" not in value:
            check_none_unknown(value, "entities")
        if not isinstance(items, list):
            raise ValueError(f'expected "entities" as a list, got {kind_of(items)}')
        if value.get("relations"):
            reading.notes.add("texts with relations, which are not read", where, text)
        return text, [span_of(item, start="start_offset", end="end_offset") for item in items]

    def keys(self, value: Any) -> tuple[str, ...]:
        return ("entities",)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        entities = [
            {"id": place, "start_offset": entity.start, "end_offset": entity.end, "label": entity.label}
            for place, entity in enumerate(sentence.entities)
        ]
        return {"id": number, "text": sentence.text, "entities": entities, "relations": []} | _metadata(sentence)


def _key(value: Any) -> str:
    return "labels" if isinstance(value, dict) and "labels" in value and "label" not in value else "label"


def _metadata(sentence: Sentence) -> dict[str, Any]:
    """What doccano keeps as the metadata of a text."""
    kept = {"source_id": sentence.id, "language": sentence.language}
    return {key: value for key, value in kept.items() if value}
