"""The library's own format: ``{"text", "entities": [{"start", "end", "label"}], "language", "id"}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retrieveall.data.formats.annotations import check_none_unknown, unknown_keys
from retrieveall.data.formats.base import Reading, Source
from retrieveall.data.formats.json_format import JsonFormat, is_triple, span_of, triples
from retrieveall.data.formats.records import first_records
from retrieveall.data.formats.spans import Span
from retrieveall.data.json_values import check_object, kind_of, string
from retrieveall.data.jsonl import plain
from retrieveall.types import Sentence

__all__ = ["Jsonl"]


class Jsonl(JsonFormat):
    """Also the format of texts without any annotation; keys that look like an unknown one are refused."""

    name = "jsonl"
    title = "JSONL of this library"
    endings = (".jsonl", ".ndjson")

    def recognise(self, source: Source) -> bool:
        values = first_records(source)
        return bool(values) and all(map(self.fits, values))

    def fits(self, value: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            return False
        entities = value.get("entities")
        if isinstance(entities, list):
            return all(isinstance(item, dict) and "start" in item for item in entities)
        return entities is None and not unknown_keys(value)

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]]:
        text = string(check_object(value), "text")
        items = value.get("entities")
        if items is None:
            check_none_unknown(value, "entities")
            items = []
        if not isinstance(items, list):
            raise ValueError(f'expected "entities" as a list, got {kind_of(items)}')
        return text, [_span(item) for item in items]

    def keys(self, value: Any) -> tuple[str, ...]:
        return ("entities",)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        return plain(sentence, number)


def _span(item: Any) -> Span:
    """A span, also as spaCy and doccano write it, since the first texts of a file may have none to tell by."""
    if is_triple(item):
        return triples([item], "entities")[0]
    if isinstance(item, dict) and "start_offset" in item:
        return span_of(item, start="start_offset", end="end_offset")
    return span_of(item)
