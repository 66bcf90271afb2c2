"""Reads and writes every kind of corpus: files, archives, folders and Hugging Face hub data sets.

Recognises the format; only the first sentences of a file are held in memory. ``retrieveall.data.formats`` has the
formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Literal, Self
from urllib.parse import parse_qsl

from retrieveall.config import check_language
from retrieveall.data.files import Report, fail, plain_name
from retrieveall.data.formats import CorpusFormat, Item, Notes, Reading, Source, by_ending, by_name, names, recognise
from retrieveall.data.hub import read_hub
from retrieveall.data.schemes import SCHEMES, Scheme
from retrieveall.data.splits import SPLITS
from retrieveall.errors import DataError, InputError
from retrieveall.types import Sentence

__all__ = ["Corpus", "Opened", "open_corpus", "read_corpus", "write_corpus"]

_ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".tar")


class Opened:
    """A corpus that is being read: its format, its items, and what was noted so far."""

    def __init__(self, format: CorpusFormat, items: Iterator[Item], reading: Reading) -> None:
        self.format = format
        self.items = items
        self._reading = reading

    @property
    def notes(self) -> Notes:
        """What was repaired or left out so far."""
        return self._reading.notes

    @property
    def scheme(self) -> Scheme | None:
        """The scheme of the tags, once it is known; None for formats without tags."""
        return self._reading.detected


class Corpus(Iterator[Sentence]):
    """The sentences of a corpus, one by one; ``format`` and ``notes`` say how it is read.

    The file is opened when the first of them is asked for.
    """

    def __init__(self, name: str, open: Callable[[], Opened]) -> None:
        self.name = name
        self._open = open
        self._opened: Opened | None = None
        self._sentences = self._read()

    @property
    def format(self) -> CorpusFormat:
        """The format that was recognised.

        Raises:
            DataError: the corpus cannot be read, or fits no format.
        """
        return self._now().format

    @property
    def notes(self) -> list[str]:
        """What was repaired or left out so far, a line for each kind."""
        return self._now().notes.lines()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sentence:
        return next(self._sentences)

    def _now(self) -> Opened:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _read(self) -> Iterator[Sentence]:
        empty = True
        for item in self._now().items:
            empty = False
            yield item.sentence
        if empty:
            left_out = "; ".join(self.notes)
            raise DataError(
                f"{self.name}: expected at least one sentence, got none{f' ({left_out})' if left_out else ''}; "
                f"check the file"
            )


def read_corpus(
    path: str | Path,
    *,
    format: str = "auto",
    language: str | None = None,
    scheme: Scheme | Literal["auto"] = "auto",
) -> Corpus:
    """Stream the sentences of a corpus.

    Args:
        path: a file or folder in one of the formats of ``docs/corpora.md``, files also as ``.gz`` or ``.xz``; a WikiANN
            archive with its split, ``de.tar.gz?split=train``; or a data set of the Hugging Face hub,
            ``hf://unimelb-nlp/wikiann/de?split=train``.
        format: the name of a format; ``auto`` recognises it by the content.
        language: language of sentences without one; it decides whether tokens are joined by spaces.
        scheme: ``auto`` accepts IOB2, IOB1 and BIOES; a named scheme accepts only its own letters.

    Returns:
        An iterator of sentences with unique, reproducible ids; those without an id get ``{language}-{file}-{number}``.
        Its ``format`` is the format, its ``notes`` say what was repaired or left out.

    Raises:
        DataError: while reading, a source that cannot be read or has no sentence; names file and line.
        InputError: an unknown format or scheme, or an invalid language identifier.
        MissingExtraError: a package that the source needs is not installed.
    """
    if scheme != "auto" and scheme not in SCHEMES:
        raise InputError(f"expected a tag scheme out of auto, {', '.join(SCHEMES)}, got {scheme!r}")
    if language is not None:
        check_language(language)
    _check_format(format)
    reading = Reading(language, None if scheme == "auto" else scheme)
    if _is_hub(path):
        opened = _open_hub(str(path), reading)
        return Corpus(str(path), lambda: opened)
    return Corpus(str(path), lambda: _open(path, format, reading))


def open_corpus(
    path: str | Path,
    *,
    format: str = "auto",
    language: str | None = None,
    scheme: Scheme | None = None,
    report: Report = fail,
    check_tags: bool = False,
) -> Opened:
    """Open a corpus and recognise its format; the rest is read with its items.

    Args:
        path: as for ``read_corpus``.
        format: as for ``read_corpus``.
        language: as for ``read_corpus``.
        scheme: as for ``read_corpus``; None detects it.
        report: called with the error of a part that cannot be read; if it returns, that part is skipped.
        check_tags: whether to collect tags that violate the scheme.

    Raises:
        DataError: a source that cannot be read, or fits no format.
        InputError: an unknown format.
    """
    _check_format(format)
    reading = Reading(language, scheme, report=report, check_tags=check_tags)
    return _open_hub(str(path), reading) if _is_hub(path) else _open(path, format, reading)


def write_corpus(
    sentences: Iterable[Sentence], target: str | Path | IO[str], *, format: str = "auto", scheme: Scheme = "iob2"
) -> int:
    """Write sentences in one of the formats.

    Args:
        sentences: the sentences; they are streamed.
        target: the file, or for BRAT the folder; replaced when everything is written.
        format: the name of a format; ``auto`` takes it from the ending of the file.
        scheme: the scheme of tags, in formats of tokens.

    Returns:
        The number of sentences written.

    Raises:
        DataError: a sentence that the format cannot hold; a file that cannot be written.
        InputError: an ending that stands for no format, an unknown format.
    """
    where = Path(target) if isinstance(target, str) else target
    return format_to_write(where, format).write(sentences, where, scheme)


def format_to_write(target: Path | IO[str], format: str = "auto") -> CorpusFormat:
    """The format of that name, or the one that the ending of the target stands for.

    Raises:
        InputError: as for ``write_corpus``.
    """
    if format != "auto":
        return by_name(format)
    found = by_ending(target) if isinstance(target, Path) and plain_name(target) == target.name else None
    if found is None:
        shown = target.name if isinstance(target, Path) else "a stream"
        raise InputError(
            f"expected a file ending that stands for a format, got {shown[:80]!r}; name the format, one of "
            f"{', '.join(names()[:-1])}"
        )
    return found


def _check_format(format: str) -> None:
    if format != "auto":
        by_name(format)


def _open(path: str | Path, format: str, reading: Reading) -> Opened:
    source, stem = _source(path)
    chosen = recognise(source) if format == "auto" else by_name(format)
    reading.stem = stem if reading.language in (None, stem) else f"{reading.language}-{stem}"
    return Opened(chosen, chosen.read(source, reading), reading)


def _source(path: str | Path) -> tuple[Source, str]:
    """The source and the beginning of its ids."""
    file, split = _file_and_split(path)
    if file.name.lower().endswith(_ARCHIVES):
        return Source(file, members=_member_names(file, split)), split
    if split and not file.is_dir():
        raise DataError(
            f"{file}: expected a .tar.gz archive or a folder before '?split=', got another file; remove the split"
        )
    stem = file.resolve().name if file.is_dir() else Path(plain_name(file)).stem
    return Source(file, split=split), split or stem


def _file_and_split(path: str | Path) -> tuple[Path, str]:
    name, mark, query = str(path).rpartition("?split=")
    return (Path(name), query) if mark else (Path(path), "")


def _member_names(archive: Path, split: str) -> frozenset[str]:
    if split in SPLITS:
        return frozenset(SPLITS[split])
    if split in chain.from_iterable(SPLITS.values()):
        return frozenset((split,))
    raise DataError(
        f"{archive}: expected the split of the archive, as in {archive.name}?split=train "
        f"(train, validation or test), got {split[:40] or 'none'}"
    )


def _is_hub(path: str | Path) -> bool:
    return isinstance(path, str) and path.startswith("hf://")


def _open_hub(spec: str, reading: Reading) -> Opened:
    name, configuration, split = _hub_parts(spec)
    sentences = read_hub(name, configuration, split, language=reading.language)
    return Opened(by_name("datasets"), (Item(each, spec) for each in sentences), reading)


def _hub_parts(spec: str) -> tuple[str, str | None, str]:
    body, _, query = spec.removeprefix("hf://").partition("?")
    parts = body.strip("/").split("/")
    options = dict(parse_qsl(query))
    if len(parts) not in (2, 3) or not all(parts) or set(options) - {"split"}:
        raise InputError(f"expected hf://owner/name/configuration?split=train, got {spec[:120]!r}")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, options.get("split", "train")
