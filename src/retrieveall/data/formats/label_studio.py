"""Label Studio's JSON and JSON-MIN exports.

Label Studio counts offsets in UTF-16 units. Of several annotations of a text, the one marked as ground truth is read,
else the latest. Texts without an annotation, or with skipped ones only, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retrieveall.data.files import Text, open_output
from retrieveall.data.formats.base import Reading
from retrieveall.data.formats.json_format import JsonFormat, identifier_of
from retrieveall.data.formats.spans import BYTES, CODE_POINTS, UTF16, Span
from retrieveall.data.json_values import check_object, check_string, integer, kind_of
from retrieveall.data.jsonl import to_json
from retrieveall.data.schemes import Scheme
from retrieveall.types import Sentence

__all__ = ["LabelStudio"]

_ANNOTATIONS = ("annotations", "completions")  # the second until version 1.0
_FIELD = "text"


class LabelStudio(JsonFormat):
    """Tasks with ``data`` and ``annotations``, or the flat tasks of JSON-MIN."""

    name = "label-studio"
    title = "Label Studio JSON"
    units = (UTF16, CODE_POINTS, BYTES)

    def fits(self, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return (isinstance(value.get("data"), dict) and _annotations(value) is not None) or bool(_regions(value))

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]] | None:
        data = check_object(value).get("data")
        if not isinstance(data, dict):
            spans = [span for region in _regions(value) for span in _labelled(region)]
            return _text(value, spans), spans
        result = _result(_annotations(value) or [], where, reading)
        if result is None:
            reading.notes.add("texts left out that nobody annotated", where)
            return None
        spans = [span for region in result for span in _spans(region)]
        return _text(data, spans), spans

    def details(self, value: Any) -> tuple[str, Any]:
        meta = value.get("meta")
        if not isinstance(meta, dict):
            return identifier_of(value), None
        return identifier_of(meta) or identifier_of(value), meta.get("language")

    def keys(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, dict) and not isinstance(value.get("data"), dict) and (found := _region_keys(value)):
            return tuple(found)
        return _ANNOTATIONS

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        result = [_region(sentence.text, each.start, each.end, each.label) for each in sentence.entities]
        meta = {key: kept for key, kept in (("id", sentence.id), ("language", sentence.language)) if kept}
        return {"id": number, "data": {_FIELD: sentence.text}, "annotations": [{"result": result}], "meta": meta}

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        count = 0
        with open_output(target) as stream:
            for count, sentence in enumerate(sentences, 1):
                stream.write(("[\n" if count == 1 else ",\n") + to_json(self.record(sentence, count), sentence))
            stream.write("\n]\n" if count else "[]\n")
        return count


def _annotations(value: Mapping[str, Any]) -> list[Any] | None:
    found = next((value[key] for key in _ANNOTATIONS if key in value), None)
    return found if isinstance(found, list) else None


def _result(annotations: Sequence[Any], where: str, reading: Reading) -> list[Any] | None:
    """The regions of the annotation that counts; None if there is none."""
    done = [each for each in map(check_object, reversed(annotations)) if not _skipped(each)]  # max takes the first
    if not done:
        return None
    if len(done) > 1:
        reading.notes.add("texts with several annotations, of which the ground truth or the latest was read", where)
    result = max(done, key=_rank).get("result", [])
    if not isinstance(result, list):
        raise ValueError(f'expected "result" as a list, got {kind_of(result)}')
    return result


def _skipped(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("was_cancelled") or annotation.get("skipped"))


def _rank(annotation: Mapping[str, Any]) -> tuple[bool, str]:
    return bool(annotation.get("ground_truth")), str(annotation.get("updated_at", ""))


def _spans(region: Any) -> list[Span]:
    """The span of a region, once for each of its labels; none of a choice, a relation, a rating."""
    value = check_object(region).get("value")
    kind = str(region.get("type", "labels"))
    if not isinstance(value, dict) or not kind.endswith("labels"):
        return []
    if kind != "labels":
        raise ValueError(f"expected regions of plain text (labels), got {kind[:40]!r}, which this library cannot read")
    return _labelled(value)


def _labelled(value: Mapping[str, Any]) -> list[Span]:
    labels = value.get("labels")
    if not isinstance(labels, list):
        raise ValueError(f'expected "labels" as a list, got {kind_of(labels)}')
    surface = value.get("text")
    start, end = integer(value.get("start"), "start"), integer(value.get("end"), "end")
    shown = surface if isinstance(surface, str) else None
    return [Span(start, end, check_string(label, "labels"), shown) for label in labels]


def _regions(value: Mapping[str, Any]) -> list[Any]:
    """The regions of a JSON-MIN task."""
    return [region for key in _region_keys(value) for region in value[key]]


def _region_keys(value: Mapping[str, Any]) -> list[str]:
    """The names of regions, which the labelling interface gave them; it may have several kinds of them."""
    return [
        key
        for key, items in value.items()
        if isinstance(items, list) and items and all(isinstance(each, dict) and "labels" in each for each in items)
    ]


def _text(data: Mapping[str, Any], spans: Sequence[Span]) -> str:
    """The text of a task: under ``text``, else the only field in which the spans can be."""
    if isinstance(data.get(_FIELD), str):
        return check_string(data[_FIELD], _FIELD)
    texts = {key: text for key, text in data.items() if isinstance(text, str)}
    if len(texts) > 1:
        texts = {key: text for key, text in texts.items() if spans and all(_within(text, span) for span in spans)}
    if len(texts) != 1:
        raise ValueError(f'expected the field "{_FIELD}" in the data, got {", ".join(data)[:80] or "none"}')
    [(key, text)] = texts.items()
    return check_string(text, key)


def _within(text: str, span: Span) -> bool:
    return span.surface in text if span.surface is not None else span.end <= len(text)


def _region(text: str, start: int, end: int, label: str) -> dict[str, Any]:
    before = len(text[:start].encode("utf-16-le", "surrogatepass")) // 2
    length = len(text[start:end].encode("utf-16-le", "surrogatepass")) // 2
    value = {"start": before, "end": before + length, "text": text[start:end], "labels": [label]}
    return {"value": value, "from_name": "label", "to_name": _FIELD, "type": "labels"}
