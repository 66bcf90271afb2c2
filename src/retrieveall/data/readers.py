"""Reads every kind of corpus: files, archives and Hugging Face hub data sets as streams of sentences.

Selects the reader for a source; only its first sentences are held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl

from retrieveall.config import check_language
from retrieveall.data.conll import looks_like_conll, read_tagged, to_sentence, with_style
from retrieveall.data.files import Line, Report, fail, iter_lines, iter_member_lines, plain_name
from retrieveall.data.hub import read_hub
from retrieveall.data.jsonl import read_jsonl
from retrieveall.data.schemes import SCHEMES, Scheme
from retrieveall.errors import DataError, InputError, LanguageError
from retrieveall.types import Sentence

__all__ = ["Format", "Opened", "find_splits", "open_corpus", "read_corpus", "splits_in"]

Format: TypeAlias = Literal["auto", "conll", "jsonl", "text"]

_FORMATS = ("auto", "conll", "jsonl", "text")
_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "conll",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
_ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".tar")
_SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "dev", "valid"),
    "test": ("test",),
}
_SUFFIXES = (".tsv", ".jsonl", ".conll", ".txt")


@dataclass(frozen=True, slots=True)
class Opened:
    """A corpus file with its format, its lines and the prefix of its ids."""

    lines: Iterator[Line]
    format: Format
    stem: str


def read_corpus(
    path: str | Path,
    *,
    format: Format = "auto",
    language: str | None = None,
    scheme: Scheme | Literal["auto"] = "auto",
) -> Iterator[Sentence]:
    """Stream the sentences of a corpus.

    Args:
        path: a file (``.tsv``, ``.conll``, ``.jsonl``, ``.txt``, each also as ``.gz`` or ``.xz``); a WikiANN
            archive with its split, ``de.tar.gz?split=train``; or a data set of the Hugging Face hub,
            ``hf://unimelb-nlp/wikiann/de?split=train``.
        format: ``auto`` decides by suffix, then by the first line.
        language: language of sentences without one; it decides whether tokens are joined by spaces.
        scheme: ``auto`` accepts IOB2, IOB1 and BIOES; a named scheme accepts only its own letters.

    Yields:
        Sentences with unique, reproducible ids; those without an id get ``{language}-{file}-{number}``.

    Raises:
        DataError: a source that cannot be read or has no sentence; names file and line.
        InputError: an unknown format or scheme, or an invalid language identifier.
        MissingExtraError: a hub data set, and the package ``datasets`` is not installed.
    """
    if scheme != "auto" and scheme not in SCHEMES:
        raise InputError(f"expected a tag scheme out of auto, {', '.join(SCHEMES)}, got {scheme!r}")
    if language is not None:
        check_language(language)
    if isinstance(path, str) and path.startswith("hf://"):
        name, configuration, split = _hub_parts(path)
        return read_hub(name, configuration, split, language=language)
    opened = open_corpus(path, format=format, language=language)
    return _not_empty(_sentences(opened, language, None if scheme == "auto" else scheme), str(path))


def open_corpus(
    path: str | Path, *, format: Format = "auto", language: str | None = None, report: Report = fail
) -> Opened:
    """Open a corpus file or an archive member and detect its format; the file is read lazily.

    Raises:
        DataError: a source that cannot be read.
        InputError: an unknown format.
    """
    if format not in _FORMATS:
        raise InputError(f"expected a format out of {', '.join(_FORMATS)}, got {format!r}")
    file, split = _file_and_split(path)
    name = plain_name(file)
    if file.name.lower().endswith(_ARCHIVES):
        lines = iter_member_lines(file, _member_names(file, split), report)
        return Opened(lines, "conll" if format == "auto" else format, _stem(split, language))
    if split:
        raise DataError(f"{file}: expected a .tar.gz archive before '?split=', got another file; remove the split")
    lines = iter_lines(file, report)
    if format == "auto":
        format = _BY_SUFFIX.get(Path(name).suffix.lower(), "auto")
    if format == "auto":
        format, lines = _sniff(lines)
    return Opened(lines, format, _stem(Path(name).stem, language))


def find_splits(root: str | Path, languages: Sequence[str] | None = None) -> dict[str, dict[str, Path]]:
    """Find ``root/{language}/{train,validation,dev,test}.{tsv,jsonl,conll,txt}``, also ``.gz`` and ``.xz``.

    Args:
        root: the folder of the corpus.
        languages: languages to find; by default all, sorted.

    Returns:
        Files by language and split (``train``, ``validation``, ``test``). ``dev`` counts as ``validation``.

    Raises:
        DataError: no such folder or language, two files for one split, a link to outside ``root``.
        LanguageError: a requested language is not a valid identifier.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with one folder per language, found none; check the path")
    if languages is None:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and _is_language(entry.name))
    else:
        names = [check_language(language) for language in languages]
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        splits = _splits_of(root / name, root.resolve())
        if splits:
            found[name] = splits
        elif languages is not None:
            raise DataError(f"{root / name}: expected files such as train.tsv, found none; check the language")
    if not found:
        raise DataError(f"{root}: expected folders such as de/ with train.tsv, found none; check the path")
    return found


def splits_in(folder: str | Path) -> dict[str, Path]:
    """The splits in ``folder`` itself, which may have any name; otherwise as ``find_splits``.

    Raises:
        DataError: two files for one split, a link to outside the folder's parent.
    """
    folder = Path(folder).resolve()
    return _splits_of(folder, folder.parent)


def _splits_of(folder: Path, root: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    splits: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        plain = Path(plain_name(file))
        split = next((split for split, names in _SPLITS.items() if plain.stem in names), None)
        if split is None or plain.suffix not in _SUFFIXES or not file.is_file():
            continue
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{file}: expected a file inside {root}, got a link to outside it; copy the file")
        if split in splits:
            raise DataError(f"{folder}: expected one file for {split}, got {splits[split].name} and {file.name}")
        splits[split] = file
    return {split: splits[split] for split in _SPLITS if split in splits}


def _is_language(name: str) -> bool:
    try:
        check_language(name)
    except LanguageError:
        return False
    return True


def _sentences(opened: Opened, language: str | None, scheme: Scheme | None) -> Iterator[Sentence]:
    if opened.format == "jsonl":
        return (sentence for _, sentence in read_jsonl(opened.lines, stem=opened.stem, language=language))
    if opened.format == "text":
        return (
            Sentence(line.text, (), language, f"{opened.stem}-{line.number}")
            for line in opened.lines
            if line.text.strip()
        )
    return (
        to_sentence(tagged, style, language=language, identifier=f"{opened.stem}-{number}")
        for number, (tagged, style) in enumerate(
            with_style(read_tagged(opened.lines), language=language, scheme=scheme), 1
        )
    )


def _not_empty(sentences: Iterator[Sentence], name: str) -> Iterator[Sentence]:
    first = next(sentences, None)
    if first is None:
        raise DataError(f"{name}: expected at least one sentence, got none; check the file")
    yield first
    yield from sentences


def _sniff(lines: Iterator[Line]) -> tuple[Format, Iterator[Line]]:
    head: list[Line] = []
    for line in lines:
        head.append(line)
        if line.text.strip():
            break
    first = head[-1].text.lstrip() if head else ""
    if first.startswith("{"):
        found: Format = "jsonl"
    elif "\t" in first or first.startswith("-DOCSTART-") or looks_like_conll(first):
        found = "conll"
    else:
        found = "text"
    return found, chain(head, lines)


def _stem(name: str, language: str | None) -> str:
    return name if language in (None, name) else f"{language}-{name}"


def _file_and_split(path: str | Path) -> tuple[Path, str]:
    name, mark, query = str(path).rpartition("?split=")
    return (Path(name), query) if mark else (Path(path), "")


def _member_names(archive: Path, split: str) -> frozenset[str]:
    if split in _SPLITS:
        return frozenset(_SPLITS[split])
    if split in chain.from_iterable(_SPLITS.values()):
        return frozenset((split,))
    raise DataError(
        f"{archive}: expected the split of the archive, as in {archive.name}?split=train "
        f"(train, validation or test), got {split[:40] or 'none'}"
    )


def _hub_parts(spec: str) -> tuple[str, str | None, str]:
    body, _, query = spec.removeprefix("hf://").partition("?")
    parts = body.strip("/").split("/")
    options = dict(parse_qsl(query))
    if len(parts) not in (2, 3) or not all(parts) or set(options) - {"split"}:
        raise InputError(f"expected hf://owner/name/configuration?split=train, got {spec[:120]!r}")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, options.get("split", "train")
