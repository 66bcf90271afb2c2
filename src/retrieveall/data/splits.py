"""Finds the files of a corpus by language and split. Knows their names, not their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieveall.config import check_language
from retrieveall.data.files import plain_name
from retrieveall.errors import DataError, LanguageError

__all__ = ["SPLITS", "SUFFIXES", "find_splits", "splits_in"]

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "dev", "valid"),
    "test": ("test",),
}
"""The names of files and folders of each split."""

SUFFIXES = frozenset(
    {".tsv", ".jsonl", ".ndjson", ".json", ".conll", ".bio", ".iob", ".iob2", ".txt", ".csv", ".spacy", ".parquet"}
)
"""The endings of files that may be corpora."""

_FOLDER_OF = ("*.ann", "*.arrow", "*.parquet")


def find_splits(root: str | Path, languages: Sequence[str] | None = None) -> dict[str, dict[str, Path]]:
    """Find ``root/{language}/{train,validation,dev,test}`` with the ending of a corpus file, also ``.gz`` and ``.xz``.

    A split may also be a folder, of BRAT files or of tables.

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
    if root.is_file():
        raise DataError(
            f"{root}: expected a folder with one folder per language, got a file; put it where its language is named, "
            f"such as data/en/train{root.suffix}, and give data"
        )
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
        own = sorted(path.name for path in splits_in(root).values())
        remedy = f"put {', '.join(own)} into a folder named after the language" if own else "check the path"
        raise DataError(f"{root}: expected folders such as de/ with train.tsv, found none; {remedy}")
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
        split = next((split for split, names in SPLITS.items() if plain.stem in names), None)
        if split is None or not _is_corpus(file, plain.suffix):
            continue
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{file}: expected a file inside {root}, got a link to outside it; copy the file")
        if split in splits:
            raise DataError(f"{folder}: expected one file for {split}, got {splits[split].name} and {file.name}")
        splits[split] = file
    return {split: splits[split] for split in SPLITS if split in splits}


def _is_language(name: str) -> bool:
    try:
        check_language(name)
    except LanguageError:
        return False
    return True


def _is_corpus(path: Path, suffix: str) -> bool:
    if path.is_dir():
        return any(next(path.glob(pattern), None) is not None for pattern in _FOLDER_OF)
    return suffix in SUFFIXES and path.is_file()
