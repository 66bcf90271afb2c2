"""Plain text, one sentence a line, without entities: read only where it is asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from retrieveall.data.files import Text
from retrieveall.data.formats.base import Item, Reading, Source
from retrieveall.data.schemes import Scheme
from retrieveall.errors import InputError
from retrieveall.types import Sentence

__all__ = ["PlainText"]


class PlainText:
    """Never recognised, since an unknown annotation would be read as text without entities."""

    name = "text"
    title = "plain text"
    endings: tuple[str, ...] = ()
    of_tokens = False

    def recognise(self, source: Source) -> bool:
        return False

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        for line in source.bytes.lines(reading.report):
            if line.text.strip():
                yield Item(Sentence(line.text, (), reading.language, f"{reading.stem}-{line.number}"), line.where)

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        raise InputError("expected a format that holds entities, got plain text; choose another")
