"""JSONL of raw text with character spans, one object per line: writes sentences, reads texts alone.

``{"text": "…", "entities": [{"start": 0, "end": 5, "label": "PER"}], "language": "en", "id": "…"}``. Offsets are code
points of ``text``, end exclusive. ``retrieveall.data.formats.jsonl`` reads sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from retrieveall.data.files import open_output
from retrieveall.data.plain_values import PlainValues
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["json_line", "to_json", "write_jsonl"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_line(record: Any, values: PlainValues | None = None) -> str:
    """A value as one line of JSON with its ending; ``values`` counts what JSON has no form for."""
    line = (values or PlainValues()).json(record)
    if _SURROGATE.search(line):  # in a field of the input: only \\u escapes can represent it
        line = PlainValues().json(record, ascii=True)
    return line + "\n"


def plain(sentence: Sentence, number: int) -> dict[str, Any]:
    """A sentence as an object of this library's JSONL."""
    entities = [{"start": entity.start, "end": entity.end, "label": entity.label} for entity in sentence.entities]
    value: dict[str, Any] = {"text": sentence.text, "entities": entities}
    if sentence.language is not None:
        value["language"] = sentence.language
    if sentence.id:
        value["id"] = sentence.id
    return value


def write_jsonl(
    sentences: Iterable[Sentence],
    target: Path | IO[str],
    record: Callable[[Sentence, int], Any] = plain,
) -> int:
    """Write sentences as JSONL, without loss.

    Args:
        sentences: the sentences.
        target: a file, replaced when all is written, or a stream.
        record: makes the object of a sentence from it and its number.

    Returns:
        The number of sentences written.

    Raises:
        DataError: a text with lone surrogates; a file that cannot be written.
    """
    count = 0
    with open_output(target) as stream:
        for count, sentence in enumerate(sentences, 1):
            stream.write(to_json(record(sentence, count), sentence) + "\n")
    return count


def to_json(value: Any, sentence: Sentence) -> str:
    """The JSON text of a sentence's object, on one line.

    Raises:
        DataError: a lone surrogate; names the sentence.
    """
    line = json.dumps(value, ensure_ascii=False)
    if _SURROGATE.search(line):
        raise DataError(f"sentence {sentence.id!r}: expected Unicode text, got a lone surrogate; remove it")
    return line
