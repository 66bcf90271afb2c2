"""BRAT: a folder of pairs ``name.txt`` and ``name.ann``, one text a pair.

A span in several parts is one span where only white space is between them (BRAT cuts spans at line ends), otherwise
each part is a span of its own. Relations, events, attributes and notes are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from retrieveall.data.files import ByteSource, Text
from retrieveall.data.formats.base import Item, Notes, Reading, Source, note_left_out
from retrieveall.data.formats.spans import BYTES, CODE_POINTS, UTF16, Span, entities_of
from retrieveall.data.schemes import Scheme
from retrieveall.errors import DataError, InputError
from retrieveall.types import Entity, Sentence

__all__ = ["Brat"]

_LIMIT = 40 * 2**20
_SPAN = re.compile(r"T\S*\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")
_UNITS = (CODE_POINTS, BYTES, UTF16)


class Brat:
    """A folder of pairs, also in folders inside it; or one of the two files of a pair."""

    name = "brat"
    title = "BRAT text and annotation files"
    endings: tuple[str, ...] = (".ann",)
    of_tokens = False

    def recognise(self, source: Source) -> bool:
        if source.folder:
            return next(source.path.rglob("*.ann"), None) is not None
        return source.path.suffix in (".txt", ".ann") and all(map(Path.is_file, _pair(source.path)))

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        root = source.path if source.folder else source.path.parent
        files = sorted(root.rglob("*.ann")) if source.folder else [source.path]
        if source.folder:
            _count_texts_alone(root, reading.notes)
            note_left_out(root, "BRAT", reading.notes, (".txt", ".ann"))
        for file in files:
            try:
                yield _item(file, root, reading)
            except DataError as error:
                reading.report(error)

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        """Write a new folder; texts are numbered."""
        if not isinstance(target, Path) or target.suffix:
            raise InputError(f"expected a folder for BRAT, got {str(target)[:80]}; name one without an ending")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(f"{target}: expected a new or empty folder for BRAT, got another; choose another name")
        count = 0
        try:
            target.mkdir(parents=True, exist_ok=True)
            for count, sentence in enumerate(sentences, 1):
                _write_pair(target / f"{count:06}", sentence)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror or error})") from None
        return count


def _pair(file: Path) -> tuple[Path, Path]:
    return file.with_suffix(".txt"), file.with_suffix(".ann")


def _count_texts_alone(root: Path, notes: Notes) -> None:
    for file in sorted(root.rglob("*.txt")):
        if not file.with_suffix(".ann").exists():
            notes.add("texts left out without an annotation file", str(file))


def _item(file: Path, root: Path, reading: Reading) -> Item:
    text_file, annotation = _pair(file)
    for each in (text_file, annotation):
        if not each.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{each}: expected a file inside {root}, got a link to outside it; copy the file")
    text = _decoded(text_file)
    entities = _entities(text, _spans(text, annotation, reading.notes), str(annotation), reading.notes)
    name = file.relative_to(root).with_suffix("").as_posix()
    return Item(Sentence(text, entities, reading.language, f"{reading.stem}-{name}"), str(text_file), named=True)


def _entities(text: str, spans: Sequence[tuple[str, Span]], where: str, notes: Notes) -> tuple[Entity, ...]:
    try:
        return entities_of(text, [span for _, span in spans], where, notes, units=_UNITS)
    except ValueError as error:
        for place, span in spans:  # which line is it?
            try:
                entities_of(text, [span], place, Notes())
            except ValueError as own:
                raise DataError(f"{place}: {own}") from None
        raise DataError(f"{where}: {error}") from None


def _decoded(file: Path) -> str:
    """The text, line ends as they are, since BRAT counts them."""
    data = ByteSource(file).data(_LIMIT)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}:{line}: expected UTF-8, got byte 0x{data[error.start]:02x}; convert the file"
        ) from None


def _spans(text: str, file: Path, notes: Notes) -> list[tuple[str, Span]]:
    """The spans, each with its place."""
    spans: list[tuple[str, Span]] = []
    for number, line in enumerate(_decoded(file).split("\n"), 1):
        if not line.startswith("T"):
            continue
        where = f"{file}:{number}"
        match = _SPAN.fullmatch(line.rstrip("\r"))
        if match is None:
            raise DataError(f"{where}: expected T1<TAB>LABEL START END<TAB>TEXT, got {line[:60]!r}")
        spans += [(where, span) for span in _parts(text, match, where, notes)]
    return spans


def _parts(text: str, match: re.Match[str], where: str, notes: Notes) -> Sequence[Span]:
    label, offsets, surface = match.groups()
    parts: list[tuple[int, int]] = []
    pairs = [part.split() for part in offsets.split(";")]
    for start, end in sorted((int(start), int(end)) for start, end in pairs):
        if parts and not text[parts[-1][1] : start].strip():
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    if len(parts) == 1:
        return [Span(*parts[0], label, surface)]
    notes.add("spans in several parts, read as one span for each part", where, surface or "")
    return [Span(start, end, label) for start, end in parts]


def _write_pair(stem: Path, sentence: Sentence) -> None:
    lines = [
        f"T{number}\t{each.label} {_offsets(sentence.text, each.start, each.end)}\t"
        f"{' '.join(sentence.text[each.start : each.end].splitlines())}\n"
        for number, each in enumerate(sentence.entities, 1)
    ]
    # A byte-order mark is no part of a text: before one that begins with it, a second is written.
    text = "\ufeff" + sentence.text if sentence.text.startswith("\ufeff") else sentence.text
    for file, content in zip(_pair(stem.with_suffix(".txt")), (text, "".join(lines)), strict=True):
        try:
            file.write_bytes(content.encode("utf-8"))
        except UnicodeEncodeError:
            raise DataError(f"sentence {sentence.id!r}: expected Unicode text, got a lone surrogate") from None


def _offsets(text: str, start: int, end: int) -> str:
    """The offsets, cut at line ends as BRAT does it."""
    return ";".join(
        f"{start + each.start()} {start + each.end()}" for each in re.finditer(r"[^\r\n]+", text[start:end])
    )
