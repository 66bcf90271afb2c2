"""Read whole corpus splits into sentences by language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieveall.cli.guard import note
from retrieveall.cli.progress import Stage
from retrieveall.data import Corpus, find_splits, read_corpus, splits_in
from retrieveall.data.formats import Source, recognise
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["Formats", "find_language", "find_split", "is_corpus", "read", "read_split"]

_STEP = 1000
_FILES = 4  # a line each; more are counted by format


class Formats:
    """What was read, and how: said once, on standard error."""

    def __init__(self) -> None:
        self._read: list[Corpus] = []

    def add(self, corpus: Corpus) -> None:
        """Remember a corpus that was read."""
        self._read.append(corpus)

    def tell(self) -> None:
        """Name the format of every file, or of many files together, and what was repaired or left out."""
        titles = [corpus.format.title for corpus in self._read]
        if len(titles) <= _FILES:
            for corpus, title in zip(self._read, titles, strict=True):
                note(f"read {corpus.name} as {title}")
        else:
            for title, count in Counter(titles).items():
                note(f"read {count:,} files as {title}")
        for corpus in self._read:
            for line in corpus.notes:
                note(f"note: {corpus.name}: {line}")


def find_split(root: Path, split: str, languages: Sequence[str] | None = None) -> dict[str, Path]:
    """The file of one split of every language: ``root/{language}/{split}.tsv`` or another supported format.

    Raises:
        DataError: no such folder; no language with that split, or a requested language without it.
    """
    found = find_splits(root, languages)
    files = {language: splits[split] for language, splits in found.items() if split in splits}
    missing = [language for language in found if language not in files]
    if missing and (languages is not None or not files):
        raise DataError(f"{root / missing[0]}: expected a file for {split} such as {split}.tsv, found none")
    return files


def find_language(data: str, language: str) -> dict[str, str | Path]:
    """The splits of one language: a file or data set is ``train``; a folder, or its subfolder named after the
    language, has a file per split.

    Raises:
        DataError: no file for ``train``.
    """
    path = Path(data)
    if not path.is_dir():
        return {"train": data}
    folder = path if not (path / language).is_dir() else path / language
    splits = splits_in(folder)
    if not splits and is_corpus(folder):
        return {"train": folder}
    if "train" not in splits:
        raise DataError(f"{folder}: expected a file for train such as train.tsv, found none")
    return dict(splits)


def is_corpus(folder: Path) -> bool:
    """Whether a folder is a corpus itself, of BRAT or Hugging Face files."""
    try:
        return bool(recognise(Source(folder)))
    except DataError:
        return False


def read_split(
    files: Mapping[str, str | Path], *, limit: int | None = None, progress: Stage | None = None
) -> dict[str, list[Sentence]]:
    """All sentences of each language, or the first ``limit``; says in which format they are.

    Raises:
        DataError: a file that cannot be read; names file and line.
    """
    formats = Formats()
    found = {
        language: read(path, language, limit=limit, progress=progress, formats=formats)
        for language, path in files.items()
    }
    formats.tell()
    return found


def read(
    path: str | Path,
    language: str,
    *,
    limit: int | None = None,
    progress: Stage | None = None,
    formats: Formats | None = None,
) -> list[Sentence]:
    """All sentences of a file or data set, or the first ``limit``; ``formats`` is told how they were read.

    Raises:
        DataError: it cannot be read; names file and line.
    """
    sentences: list[Sentence] = []
    corpus = read_corpus(path, language=language)
    for sentence in corpus:
        if limit is not None and len(sentences) >= limit:
            break
        sentences.append(sentence)
        if progress is not None and len(sentences) % _STEP == 0:
            progress(f"reading {language}", len(sentences), None)
    if formats is not None:
        formats.add(corpus)
    return sentences
