"""What the formats of JSON have in common: an object a text, with spans of characters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from retrieveall.config import check_language
from retrieveall.data.files import Text
from retrieveall.data.formats.annotations import check_all_read, is_triple
from retrieveall.data.formats.base import Item, Reading, Source
from retrieveall.data.formats.records import first_records, records
from retrieveall.data.formats.spans import CODE_POINTS, Span, entities_of
from retrieveall.data.json_values import check_object, check_string, integer, kind_of, string
from retrieveall.data.jsonl import write_jsonl
from retrieveall.data.schemes import Scheme
from retrieveall.errors import DataError, InputError
from retrieveall.types import Sentence

__all__ = ["JsonFormat", "is_triple", "span_of", "triples"]


class JsonFormat(ABC):
    """A format of JSON values, in lines or in an array."""

    name = ""
    title = ""
    endings: tuple[str, ...] = ()
    of_tokens = False
    units: Sequence[str] = (CODE_POINTS,)

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether a value can only be of this format."""

    @abstractmethod
    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]] | None:
        """The text and spans of a value; None for one that is left out.

        Raises:
            ValueError: a malformed value.
        """

    @abstractmethod
    def keys(self, value: Any) -> tuple[str, ...]:
        """The keys under which entities of a value are read, the usual one first."""

    @abstractmethod
    def record(self, sentence: Sentence, number: int) -> Any:
        """The value of a sentence."""

    def parts(self, value: Any) -> Iterable[Any]:
        """The values of single texts in a record."""
        return (value,)

    def recognise(self, source: Source) -> bool:
        return any(self.fits(value) for value in first_records(source))

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        for number, where, value in records(source, reading.report):
            for place, part in enumerate(self.parts(value)):
                name = f"{reading.stem}-{number}" + (f"-{place}" if place else "")
                try:
                    found = self._item(part, where, name, reading)
                except ValueError as error:
                    reading.report(DataError(f"{where}: {error}"))
                    continue
                if found is not None:
                    yield found

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        return write_jsonl(sentences, target, self.record)

    def _item(self, value: Any, where: str, name: str, reading: Reading) -> Item | None:
        check_all_read(value, self.keys(value), self.name, self.title)
        found = self.text_and_spans(value, where, reading)
        if found is None:
            return None
        text, spans = found
        if not text.strip() and not spans:
            reading.notes.add("empty texts left out", where)
            return None
        entities = entities_of(text, spans, where, reading.notes, units=self.units)
        identifier, language = self.details(value)
        sentence = Sentence(text, entities, _language(language) or reading.language, identifier or name)
        return Item(sentence, where, named=bool(identifier))

    def details(self, value: Any) -> tuple[str, Any]:
        """The id and the language of a value; empty and None where it has none."""
        return identifier_of(value), value.get("language") if isinstance(value, dict) else None


def identifier_of(value: Any) -> str:
    """The id of an object as a string; a number is one, too.

    Raises:
        ValueError: it is something else.
    """
    written = value.get("id") if isinstance(value, dict) else None
    if written is None:
        return ""
    return str(written) if type(written) is int else check_string(written, "id")


def _language(written: Any) -> str | None:
    if written is None:
        return None
    try:
        return check_language(check_string(written, "language"))
    except InputError as error:
        raise ValueError(str(error)) from None


def triples(items: Any, key: str) -> list[Span]:
    """The spans of a list of ``[start, end, label]``.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(items, list):
        raise ValueError(f'expected "{key}" as a list, got {kind_of(items)}')
    for item in items:
        if not isinstance(item, list) or len(item) < 3:
            raise ValueError(f'expected spans in "{key}" as [start, end, label], got {str(item)[:60]}')
    return [Span(integer(item[0], "start"), integer(item[1], "end"), check_string(item[2], "label")) for item in items]


def span_of(item: Any, *, start: str = "start", end: str = "end") -> Span:
    """The span of an object with offsets, label and perhaps its text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(item, dict):
        raise ValueError(f'expected an entity as {{"{start}", "{end}", "label"}}, got {kind_of(item)}')
    for key in (start, end):
        if key not in item:
            raise ValueError(f'expected the key "{key}", got none')
    surface = item.get("text")
    return Span(
        integer(item[start], start),
        integer(item[end], end),
        string(check_object(item), "label"),
        surface if isinstance(surface, str) else None,
    )
