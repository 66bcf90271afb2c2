"""The formats of corpora: one module each, listed here, recognised by their content."""

from __future__ import annotations

from pathlib import Path

from retrieveall.data.files import plain_name
from retrieveall.data.formats.base import CorpusFormat, Item, Notes, Reading, Source
from retrieveall.data.formats.brat import Brat
from retrieveall.data.formats.conll import Conll
from retrieveall.data.formats.csv import Csv
from retrieveall.data.formats.datasets import Datasets
from retrieveall.data.formats.docbin import DocBin
from retrieveall.data.formats.doccano import Doccano, DoccanoRelations
from retrieveall.data.formats.gliner import Gliner
from retrieveall.data.formats.jsonl import Jsonl
from retrieveall.data.formats.label_studio import LabelStudio
from retrieveall.data.formats.prodigy import Prodigy
from retrieveall.data.formats.records import records
from retrieveall.data.formats.spacy_json import SpacyJson
from retrieveall.data.formats.text import PlainText
from retrieveall.errors import DataError, InputError

__all__ = [
    "FORMATS",
    "CorpusFormat",
    "Item",
    "Notes",
    "Reading",
    "Source",
    "by_ending",
    "by_name",
    "names",
    "recognise",
]

FORMATS: tuple[CorpusFormat, ...] = (
    Doccano(),
    DoccanoRelations(),
    Prodigy(),
    LabelStudio(),
    SpacyJson(),
    DocBin(),
    Brat(),
    Datasets(),
    Gliner(),
    Jsonl(),  # last of JSON, since it is also the format of texts alone
    Csv(),
    Conll(),
    PlainText(),
)
"""All formats; the first that recognises a file reads it."""

_ZIP = b"PK\x03\x04"


def names() -> tuple[str, ...]:
    """The names of the formats."""
    return tuple(format.name for format in FORMATS)


def by_name(name: str) -> CorpusFormat:
    """The format of that name.

    Raises:
        InputError: there is none.
    """
    for format in FORMATS:
        if format.name == name:
            return format
    raise InputError(f"expected a format out of {', '.join(names())}, got {name[:80]!r}")


def by_ending(path: Path) -> CorpusFormat | None:
    """The format that the ending of a file stands for, without ``.gz`` and ``.xz``; None for an unknown one."""
    ending = Path(plain_name(path)).suffix.lower()
    return next((format for format in FORMATS if ending in format.endings), None)


def recognise(source: Source) -> CorpusFormat:
    """The format of a file or folder by its content; by its ending where the content says nothing.

    Raises:
        DataError: it fits no format, or cannot be read.
    """
    if source.head.startswith(_ZIP):
        raise DataError(f"{source.name}: expected a corpus file, got a zip archive; unpack it first")
    found = next((format for format in FORMATS if format.recognise(source)), None) or by_ending(source.path)
    if found is not None:
        return found
    if source.folder:
        raise DataError(
            f"{source.name}: expected a file, or a folder of BRAT or Hugging Face files, got a directory of others; "
            f"give one of its files"
        )
    if not source.head:
        raise DataError(f"{source.name}: expected at least one line, got an empty file; check the path")
    first = next((line for line in source.head_lines if line.strip()), "")
    if first.lstrip().startswith(("{", "[")):
        for _ in records(source):  # says what is wrong with it, unless it is only of another kind
            break
    raise DataError(
        f"{source.name}: expected a corpus in one of the formats {', '.join(names()[:-1])}, got {first[:60]!r} and "
        f"nothing that fits; see docs/corpora.md"
    )
