"""Training sentences as columns: a few bytes a sentence in memory, made into ``Sentence`` when asked for by row."""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.data.normal import normalise
from retrieveall.errors import InputError, ModelFolderError
from retrieveall.knowledge.files import column, encode_labels, int32, integers, make_table, read_table, write_table
from retrieveall.types import Entity, Sentence

__all__ = ["SentenceTable", "text_key"]


def text_key(text: str) -> int:
    """64 bits of a hash of ``text`` without white space, case and compatibility variants: equal for duplicates."""
    return _hash("".join(unicodedata.normalize("NFKC", normalise(text).text).casefold().split()))


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class SentenceTable:
    """The sentences of one language.

    Args:
        table: Arrow table of the columns ``id``, ``text``, ``starts``, ``ends`` and ``labels``.
        language: what every sentence gets as its language.
        where: names the table in errors.

    Raises:
        ModelFolderError: a span outside of its text, or columns that do not fit each other.
    """

    def __init__(self, table: Any, language: str, where: str) -> None:
        self._table = table
        self._language = language
        self._ids, self._texts, starts, ends, labels = (column(table, name) for name in table.schema.names)
        if not _aligned(self._texts, starts, ends, labels):
            raise ModelFolderError(f"{where}: an entity lies outside of its text; index again")
        self._names, self._labels = encode_labels(labels.values)
        self._first = integers(starts.offsets)
        self._starts = integers(starts.values)
        self._ends = integers(ends.values)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: int) -> Sentence:
        text = self._texts[row].as_py()
        own = slice(self._first[row], self._first[row + 1])
        spans = zip(self._starts[own], self._ends[own], self._labels[own], strict=True)
        entities = tuple(Entity(start, end, self._names[label], text[start:end]) for start, end, label in spans)
        return Sentence(text, entities, self._language, self._ids[row].as_py())

    @property
    def texts(self) -> list[str]:
        """All texts."""
        texts: list[str] = self._texts.to_pylist()
        return texts

    def duplicates(self, sentence: Sentence) -> list[int]:
        """The rows that are ``sentence``: of the same text, or of this language and the same non-empty id."""
        rows = self._by_text.rows(text_key(sentence.text))
        if sentence.id and sentence.language in (None, self._language):
            rows = sorted({*rows, *self._by_id.rows(_hash(sentence.id))})
        return rows

    def fingerprint(self) -> str:
        """A hash of ids, texts and labelled spans."""
        digest = hashlib.sha256(json.dumps([self._ids.to_pylist(), self.texts, self._names]).encode())
        for numbers in (self._first, self._starts, self._ends, self._labels):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _by_text(self) -> _Lookup:
        return _Lookup([text_key(text) for text in self.texts])

    @functools.cached_property
    def _by_id(self) -> _Lookup:
        return _Lookup([_hash(identifier) for identifier in self._ids.to_pylist()])

    @classmethod
    def of(cls, sentences: Sequence[Sentence], language: str) -> SentenceTable:
        """The table of ``sentences``.

        Raises:
            InputError: a text or id with a lone surrogate, which no file can hold.
        """
        columns: list[list[Any]] = [
            [sentence.id for sentence in sentences],
            [sentence.text for sentence in sentences],
            [[entity.start for entity in sentence.entities] for sentence in sentences],
            [[entity.end for entity in sentence.entities] for sentence in sentences],
            [[entity.label for entity in sentence.entities] for sentence in sentences],
        ]
        try:
            table = make_table(_schema(), columns)
        except UnicodeEncodeError as error:
            raise InputError(
                f"the sentences of '{language}': expected Unicode text, got a lone surrogate in "
                f"{str(error.object)[:80]!r}; remove it"
            ) from None
        return cls(table, language, f"the sentences of '{language}'")

    @classmethod
    def open(cls, path: Path, language: str) -> SentenceTable:
        """Read a Parquet file.

        Raises:
            ModelFolderError: missing or malformed file.
        """
        return cls(read_table(path, _schema()), language, str(path))

    def save(self, path: Path) -> None:
        """Write a Parquet file."""
        write_table(path, self._table)


class _Lookup:
    """Rows by hash, in two sorted arrays instead of a dictionary: 16 bytes a row."""

    def __init__(self, hashes: Sequence[int]) -> None:
        values = np.array(hashes, dtype=np.uint64)
        self._rows = np.argsort(values, kind="stable")
        self._values: npt.NDArray[np.uint64] = values[self._rows]

    def rows(self, value: int) -> list[int]:
        first, last = (int(np.searchsorted(self._values, np.uint64(value), side)) for side in ("left", "right"))
        return sorted(int(row) for row in self._rows[first:last])


def _aligned(texts: Any, starts: Any, ends: Any, labels: Any) -> bool:
    """Whether the lists belong together and every span lies inside of its text."""
    first = int32(starts.offsets)
    if not all(np.array_equal(first, int32(lists.offsets)) for lists in (ends, labels)):
        return False
    sizes = np.repeat(np.fromiter(map(len, texts.to_pylist()), np.int64, len(texts)), np.diff(first))
    start, end = int32(starts.values), int32(ends.values)
    return bool(((start >= 0) & (start < end) & (end <= sizes)).all())


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("starts", pa.list_(pa.int32())),
            ("ends", pa.list_(pa.int32())),
            ("labels", pa.list_(pa.string())),
        ]
    )
