"""Sentences of tokens with tags as items, for the formats that hold tokens."""

from __future__ import annotations

from collections.abc import Iterator

from retrieveall.data.conll import FileStyle, TaggedSentence, to_sentence, with_style
from retrieveall.data.formats.base import Item, Reading
from retrieveall.data.schemes import ill_formed
from retrieveall.errors import DataError, InputError

__all__ = ["items"]


def items(sentences: Iterator[TaggedSentence], reading: Reading) -> Iterator[Item]:
    """The items of tagged sentences; those that do not fit their file are reported."""
    styled = with_style(sentences, language=reading.language, scheme=reading.scheme)
    for number, (tagged, style) in enumerate(styled, 1):
        reading.detected = style.scheme
        try:
            yield _item(tagged, style, f"{reading.stem}-{number}", reading)
        except DataError as error:
            reading.report(error)


def _item(tagged: TaggedSentence, style: FileStyle, name: str, reading: Reading) -> Item:
    sentence = to_sentence(tagged, style, language=reading.language, identifier=name)
    return Item(sentence, f"{tagged.file}:{tagged.lines[0]}", _ill_formed(tagged, style) if reading.check_tags else ())


def _ill_formed(tagged: TaggedSentence, style: FileStyle) -> tuple[tuple[str, str], ...]:
    try:
        broken = ill_formed(tagged.tags, style.scheme)
    except InputError as error:
        raise DataError(f"{tagged.file}:{tagged.lines[0]}: {error}") from None
    return tuple((f"{tagged.file}:{tagged.lines[i]}", tagged.tags[i]) for i in broken)
