"""JSONL of raw text with character spans, one object per line.

``{"text": "…", "entities": [{"start": 0, "end": 5, "label": "PER"}], "language": "en", "id": "…"}``;
``entities``, ``language`` and ``id`` are optional, other keys are ignored. Offsets are code points of ``text``, end
exclusive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from retrieveall.config import check_language
from retrieveall.data.files import Line, Report, fail, open_output
from retrieveall.data.schemes import split_tag
from retrieveall.errors import DataError, InputError
from retrieveall.types import Entity, Sentence

__all__ = ["read_jsonl", "read_jsonl_texts", "write_jsonl"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_jsonl(
    lines: Iterable[Line], *, stem: str, language: str | None = None, report: Report = fail
) -> Iterator[tuple[Line, Sentence]]:
    """The sentences of a JSONL file, each with its line; blank lines are skipped.

    Args:
        lines: lines of the file.
        stem: name of the file in generated ids.
        language: language of lines without one.
        report: called with the error of a malformed line; if it returns, the line is skipped.

    Raises:
        DataError: not JSON, a wrong type, a span that is empty, overlapping or outside the text; names file and line.
    """
    for line in lines:
        if not line.text.strip():
            continue
        try:
            yield line, _sentence(_object(line.text), stem, line.number, language)
        except ValueError as error:
            report(DataError(f"{line.where}: {error}"))


def read_jsonl_texts(lines: Iterable[Line]) -> Iterator[str]:
    """The ``"text"`` of every line; blank lines are skipped.

    Raises:
        DataError: not JSON, or no text; names file and line.
    """
    for line in lines:
        if not line.text.strip():
            continue
        try:
            yield _string(_object(line.text), "text")
        except ValueError as error:
            raise DataError(f"{line.where}: {error}") from None


def write_jsonl(sentences: Iterable[Sentence], target: Path | IO[str]) -> int:
    """Write sentences as JSONL, without loss.

    Returns:
        The number of sentences written.

    Raises:
        DataError: a text with lone surrogates; a file that cannot be written.
    """
    count = 0
    with open_output(target) as stream:
        for sentence in sentences:
            line = json.dumps(_plain(sentence), ensure_ascii=False)
            if _SURROGATE.search(line):
                raise DataError(f"sentence {sentence.id!r}: expected Unicode text, got a lone surrogate; remove it")
            stream.write(line + "\n")
            count += 1
    return count


def _plain(sentence: Sentence) -> dict[str, Any]:
    entities = [{"start": entity.start, "end": entity.end, "label": entity.label} for entity in sentence.entities]
    plain: dict[str, Any] = {"text": sentence.text, "entities": entities}
    if sentence.language is not None:
        plain["language"] = sentence.language
    if sentence.id:
        plain["id"] = sentence.id
    return plain


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("expected a flat JSON object, got deep nesting") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON object, got invalid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(value, dict):
        raise ValueError(f'expected a JSON object with the key "text", got {_kind(value)}')
    return value


def _sentence(value: dict[str, Any], stem: str, number: int, language: str | None) -> Sentence:
    text = _string(value, "text")
    if value.get("language") is not None:
        try:
            language = check_language(_string(value, "language"))
        except InputError as error:
            raise ValueError(str(error)) from None
    identifier = _string(value, "id") if value.get("id") is not None else f"{stem}-{number}"
    items = value.get("entities", [])
    if not isinstance(items, list):
        raise ValueError(f'expected "entities" as a list, got {_kind(items)}')
    entities = sorted(_entity(item, text) for item in items)
    for left, right in pairwise(entities):
        if right.start < left.end:
            raise ValueError(
                f"expected entities without overlap, got {left.start} to {left.end} "
                f"and {right.start} to {right.end}; keep one of them"
            )
    return Sentence(text, tuple(entities), language, identifier)


def _entity(item: Any, text: str) -> Entity:
    if not isinstance(item, dict):
        raise ValueError(f'expected an entity as {{"start", "end", "label"}}, got {_kind(item)}')
    start, end = _integer(item, "start"), _integer(item, "end")
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"expected 0 <= start < end <= {len(text)}, the length of the text, "
            f"got start {start} and end {end}; offsets are code points, end exclusive"
        )
    label = _string(item, "label")
    try:
        split_tag(f"B-{label}")
    except InputError:
        raise ValueError(
            f"expected a label of 1 to 64 characters without blanks and slashes and not 'O', "
            f"got {label[:80]!r}; rename it"
        ) from None
    surface = text[start:end]
    if item.get("text") is not None and item["text"] != surface:
        raise ValueError(
            f"expected {surface[:40]!r}, the text at {start} to {end}, got the entity text "
            f"{str(item['text'])[:40]!r}; offsets are code points, not bytes"
        )
    return Entity(start, end, label, surface)


def _string(value: dict[str, Any], key: str) -> str:
    if key not in value:
        raise ValueError(f'expected the key "{key}", got none')
    string = value[key]
    if not isinstance(string, str):
        raise ValueError(f'expected "{key}" as a string, got {_kind(string)}')
    if _SURROGATE.search(string):
        raise ValueError(f'expected "{key}" as Unicode text, got a lone surrogate; correct the \\u escape')
    return string


def _integer(value: dict[str, Any], key: str) -> int:
    if key not in value:
        raise ValueError(f'expected the key "{key}", got none')
    number = value[key]
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f'expected "{key}" as an integer, got {_kind(number)}')
    return number


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), type(value).__name__)
