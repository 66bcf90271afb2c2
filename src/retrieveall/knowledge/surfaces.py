"""Surfaces of one language as columns: a few bytes each in memory, made into rows when asked for.

Knows how they are stored, not how they are counted or matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from retrieveall.errors import ModelFolderError
from retrieveall.knowledge.files import column, encode_labels, integers, make_table, read_table, write_table
from retrieveall.knowledge.words import BREAK, terminate

__all__ = ["Surface", "SurfaceTable"]


class Surface(NamedTuple):
    """A surface in one language's training data.

    ``form`` holds its words, separated by a blank where white space stood between them and by ``BREAK`` where
    not, in the most frequent way. ``outside`` counts where several words stand, in any case, without touching
    a mention; it is 0 for a single word. ``examples`` are the rows of the first few sentences that mention
    it.
    """

    form: str
    counts: Mapping[str, int]
    outside: int = 0
    examples: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The words alone, joined by ``BREAK``."""
        return self.form.replace(" ", BREAK)


class SurfaceTable:
    """The surfaces of one language.

    Args:
        table: Arrow table of the columns ``form``, ``labels``, ``counts``, ``outside`` and ``examples``.
        where: names the table in errors.

    Raises:
        ModelFolderError: columns that do not fit each other, or counts that are none.
    """

    def __init__(self, table: Any, where: str) -> None:
        self._table = table
        self._forms, labels, counts, outside, examples = (column(table, name) for name in table.schema.names)
        self._names, self._labels = encode_labels(labels.values)
        self._first = integers(labels.offsets)
        self._counts = integers(counts.values)
        self._outside = integers(outside)
        self._examples_first = integers(examples.offsets)
        self._examples = integers(examples.values)
        if self._first != integers(counts.offsets) or min(self._counts, default=1) < 1:
            raise ModelFolderError(f"{where}: labels and counts do not fit each other; index again")
        if min(self._outside, default=0) < 0 or min(self._examples, default=0) < 0:
            raise ModelFolderError(f"{where}: a count or a sentence below 0; index again")

    def __len__(self) -> int:
        return len(self._outside)

    def __getitem__(self, row: int) -> Surface:
        examples = self._examples[self._examples_first[row] : self._examples_first[row + 1]]
        return Surface(self._forms[row].as_py(), self.counts(row), self._outside[row], tuple(examples))

    def counts(self, row: int) -> dict[str, int]:
        """The mentions of one surface by label."""
        return {self._names[self._labels[i]]: self._counts[i] for i in range(self._first[row], self._first[row + 1])}

    def last_example(self) -> int:
        """The largest row of a sentence that an example refers to; -1 for none."""
        return max(self._examples, default=-1)

    def keys(self) -> str:
        """The keys of all surfaces, by row, each followed by ``SEPARATOR``."""
        return terminate(self._forms.to_pylist()).replace(" ", BREAK)

    @classmethod
    def of(cls, surfaces: Iterable[Surface]) -> SurfaceTable:
        """The table of ``surfaces``."""
        rows = list(surfaces)
        columns: list[list[Any]] = [
            [row.form for row in rows],
            [list(row.counts) for row in rows],
            [list(row.counts.values()) for row in rows],
            [row.outside for row in rows],
            [list(row.examples) for row in rows],
        ]
        return cls(make_table(_schema(), columns), "the surfaces")

    @classmethod
    def open(cls, path: Path) -> SurfaceTable:
        """Read a Parquet file.

        Raises:
            ModelFolderError: missing or malformed file.
        """
        return cls(read_table(path, _schema()), str(path))

    def save(self, path: Path) -> None:
        """Write a Parquet file."""
        write_table(path, self._table)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("form", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("counts", pa.list_(pa.int32())),
            ("outside", pa.int32()),
            ("examples", pa.list_(pa.int32())),
        ]
    )
