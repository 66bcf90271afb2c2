"""One door to every corpus: files, archives and data sets of the Hugging Face hub as streams of sentences.

Decides which reader a source needs and holds no more than its first sentences in memory. Knows no label set.
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
from retrieveall.data.files import Line, Report, Source, fail, iter_lines, iter_member_lines, plain_name
from retrieveall.data.hub import read_hub
from retrieveall.data.jsonl import read_jsonl, read_jsonl_texts
from retrieveall.data.schemes import SCHEMES, Scheme
from retrieveall.errors import DataError, InputError, LanguageError
from retrieveall.types import Sentence

__all__ = ["Format", "Opened", "find_splits", "open_corpus", "read_corpus", "read_texts", "splits_in"]

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
    """A corpus file whose format is known: its lines, and the name that its ids begin with."""

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
        format: ``auto`` goes by the suffix, then by the first line.
        language: of all sentences that name none themselves; it decides whether tokens are joined by blanks.
        scheme: ``auto`` accepts IOB2, IOB1 and BIOES; a named scheme accepts only its own letters.

    Yields:
        sentences with unique ids, the same in every run. Without ids of their own they are called
        ``{language}-{file}-{number}``.

    Raises:
        DataError: a source that cannot be read, or without a sentence; names file and line.
        InputError: an unknown format or scheme, or a language that is no identifier.
        MissingExtraError: a hub data set without the package ``datasets``.
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
    """Open a corpus file or a member of an archive and settle its format; the file is read as the lines are.

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
        raise DataError(f"{file}: expected a .tar.gz archive before '?split=', got another file; leave the split out")
    lines = iter_lines(file, report)
    if format == "auto":
        format = _BY_SUFFIX.get(Path(name).suffix.lower(), "auto")
    if format == "auto":
        format, lines = _sniff(lines)
    return Opened(lines, format, _stem(Path(name).stem, language))


def read_texts(source: str | Source, *, format: Literal["auto", "text", "jsonl"] = "auto") -> Iterator[str]:
    """Stream raw texts for extraction: one text a line, or JSONL objects with ``"text"``.

    Args:
        source: a path or an open stream. Streams are read as lines unless ``format`` says ``jsonl``.
        format: ``auto`` goes by the suffix. Blank lines are texts in ``text``, and are skipped in ``jsonl``.

    Raises:
        DataError: a source that cannot be read, empty, not UTF-8, or a line without a text; names file and
            line.
        InputError: an unknown format.
    """
    if format not in ("auto", "text", "jsonl"):
        raise InputError(f"expected a format out of auto, text, jsonl, got {format!r}")
    if isinstance(source, str):
        source = Path(source)
    if format == "auto":
        suffix = Path(plain_name(source)).suffix.lower() if isinstance(source, Path) else ""
        format = "jsonl" if _BY_SUFFIX.get(suffix) == "jsonl" else "text"
    lines = iter_lines(source)
    return read_jsonl_texts(lines) if format == "jsonl" else (line.text for line in lines)


def find_splits(root: str | Path, languages: Sequence[str] | None = None) -> dict[str, dict[str, Path]]:
    """Find ``root/{language}/{train,validation,dev,test}.{tsv,jsonl,conll,txt}``, also ``.gz`` and ``.xz``.

    Args:
        root: the folder of the corpus.
        languages: those to find; all by default, in alphabetical order.

    Returns:
        language to split (``train``, ``validation``, ``test``) to file. ``dev`` counts as ``validation``.

    Raises:
        DataError: no such folder or language, two files for one split, a link that leads out of ``root``.
        LanguageError: a requested language that is no identifier.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with one folder a language, found none; check the path")
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
    """The splits that stand in ``folder`` itself, which may have any name; otherwise as ``find_splits``.

    Raises:
        DataError: two files for one split, a link that leads out of the folder's parent.
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
            raise DataError(f"{file}: expected a file inside of {root}, got a link that leads out; copy the file")
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
