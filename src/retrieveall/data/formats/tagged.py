"""Sentences of tokens with tags as items, for the formats that hold tokens."""

from __future__ import annotations

from collections.abc import Iterator

from retrieveall.data.conll import FileStyle, TaggedSentence, to_sentence, with_style
from retrieveall.data.formats.base import Item, Reading
from retrieveall.data.schemes import ill_formed, tags_to_spans
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
    where = f"{tagged.file}:{tagged.lines[0]}"
    if not reading.check_tags:
        return Item(sentence, where)
    wrong = _ill_formed(tagged, style)
    starts = [start for start, _, _ in tags_to_spans(tagged.tags, style.accepts)]
    broken = frozenset(number for number, start in enumerate(starts) if start in wrong)
    return Item(sentence, where, tuple((f"{tagged.file}:{tagged.lines[i]}", tagged.tags[i]) for i in wrong), broken)


def _ill_formed(tagged: TaggedSentence, style: FileStyle) -> list[int]:
    # A sentence may have letters that the first ones of the file had not.
    scheme = "bioes" if any(tag[0] in "ESLU" for tag in tagged.tags) else style.scheme
    try:
        return ill_formed(tagged.tags, scheme)
    except InputError as error:
        raise DataError(f"{tagged.file}:{tagged.lines[0]}: {error}") from None
