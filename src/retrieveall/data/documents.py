"""Texts to predict with the other fields of their records, from lines of text or JSONL; batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retrieveall.batched import batched
from retrieveall.config import MAX_CHARACTERS
from retrieveall.data.files import Line
from retrieveall.data.json_values import check_object, parse, string
from retrieveall.errors import DataError

__all__ = ["Document", "batches", "check_length", "read_json_texts", "read_text_lines"]

_BATCH_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the other fields of its record; ``size`` is its length in the file in bytes, for progress."""

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0


def batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    """Documents in lists of at most ``size`` items and about a million characters.

    Documents read before an error are yielded first, so that every line before a broken one gets a prediction.
    """
    return batched(documents, size, weigh=lambda document: len(document.text), most=_BATCH_CHARACTERS)


def read_text_lines(lines: Iterable[Line]) -> Iterator[tuple[Line, Document]]:
    """Each line as a text."""
    for line in lines:
        yield line, Document(line.text, {}, len(line.text.encode()) + 1)


def read_json_texts(lines: Iterable[Line]) -> Iterator[tuple[Line, Document]]:
    """The ``"text"`` of each JSON object, null being an empty text; blank lines are skipped.

    Raises:
        DataError: not JSON, or no text; names file and line.
    """
    for line in lines:
        if not line.text.strip():
            continue
        try:
            record = check_object(parse(line.text))
            text = "" if record.get("text", "") is None else string(record, "text")
        except ValueError as error:
            raise DataError(f"{line.where}: {error}") from None
        del record["text"]
        yield line, Document(text, record, len(line.text.encode()) + 1)


def check_length(text: str, where: str) -> None:
    """The same check as in the pipeline, but naming file and line.

    Raises:
        DataError: the text is too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"{where}: expected a text of at most {MAX_CHARACTERS:,} characters, got {len(text):,}; split the document"
        )
