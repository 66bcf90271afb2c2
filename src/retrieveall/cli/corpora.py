"""Read whole corpus splits into sentences by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieveall.cli.progress import Stage
from retrieveall.data import find_splits, read_corpus, splits_in
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["find_language", "find_split", "read", "read_split"]

_STEP = 1000


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
    if "train" not in splits:
        raise DataError(f"{folder}: expected a file for train such as train.tsv, found none")
    return dict(splits)


def read_split(
    files: Mapping[str, str | Path], *, limit: int | None = None, progress: Stage | None = None
) -> dict[str, list[Sentence]]:
    """All sentences of each language, or the first ``limit``.

    Raises:
        DataError: a file that cannot be read; names file and line.
    """
    return {language: read(path, language, limit=limit, progress=progress) for language, path in files.items()}


def read(path: str | Path, language: str, *, limit: int | None = None, progress: Stage | None = None) -> list[Sentence]:
    """All sentences of a file or data set, or the first ``limit``.

    Raises:
        DataError: it cannot be read; names file and line.
    """
    sentences: list[Sentence] = []
    for sentence in read_corpus(path, language=language):
        if limit is not None and len(sentences) >= limit:
            break
        sentences.append(sentence)
        if progress is not None and len(sentences) % _STEP == 0:
            progress(f"reading {language}", len(sentences), None)
    return sentences
