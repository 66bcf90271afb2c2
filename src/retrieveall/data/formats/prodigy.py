"""Prodigy's JSONL: ``{"text": "…", "spans": [{"start", "end", "label"}], "answer": "accept"}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retrieveall.data.formats.base import Reading
from retrieveall.data.formats.json_format import JsonFormat, identifier_of, span_of
from retrieveall.data.formats.spans import Span
from retrieveall.data.json_values import check_object, kind_of, string
from retrieveall.types import Sentence

__all__ = ["Prodigy"]

_OWN_KEYS = {"_input_hash", "_task_hash", "_view_id", "_session_id"}


class Prodigy(JsonFormat):
    """Texts that were rejected or ignored are left out; one without an answer counts as accepted."""

    name = "prodigy"
    title = "Prodigy JSONL"

    def fits(self, value: Any) -> bool:
        if not isinstance(value, dict) or "text" not in value:
            return False
        spans = value.get("spans")
        if isinstance(spans, list):
            return all(isinstance(item, dict) and "start" in item for item in spans)
        return bool(_OWN_KEYS & value.keys()) or value.get("answer") in ("accept", "reject", "ignore")

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]] | None:
        answer = check_object(value).get("answer", "accept")
        if answer != "accept":
            reading.notes.add(f"texts left out with the answer {answer!r}", where)
            return None
        spans = value.get("spans") or []
        if not isinstance(spans, list):
            raise ValueError(f'expected "spans" as a list, got {kind_of(spans)}')
        return string(value, "text"), [span_of(item) for item in spans]

    def details(self, value: Any) -> tuple[str, Any]:
        meta = value.get("meta")
        if not isinstance(meta, dict):
            return identifier_of(value), value.get("language")
        return identifier_of(meta) or identifier_of(value), meta.get("language", value.get("language"))

    def keys(self, value: Any) -> tuple[str, ...]:
        return ("spans",)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        spans = [{"start": entity.start, "end": entity.end, "label": entity.label} for entity in sentence.entities]
        meta = {key: kept for key, kept in (("id", sentence.id), ("language", sentence.language)) if kept}
        return {"text": sentence.text, "spans": spans, "answer": "accept", "meta": meta}
