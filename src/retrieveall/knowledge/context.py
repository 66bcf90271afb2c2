"""Nearest training sentences: exact inner-product search over one shard of vectors per language.

Knows rows and vectors, never text. Vectors are small integers, so their inner products are exact in float32
and do not depend on batch size, order of summation or machine: the same query always has the same neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from retrieveall.errors import InputError

__all__ = ["MAX_SCALE", "ContextIndex", "Hit", "fit_scale", "quantise"]

_LIMIT = 127
MAX_SCALE = 4000.0  # scale^2 bounds every partial sum of an inner product and must stay below 2^24
_APPROXIMATE_FROM = 1_000_000
_GROUP = 16
_QUERIES = 64  # at once: their products with one shard should stay in the cache
_SLACK = 4  # fetched beyond what is asked, so that ties at the end seldom cost a second search

Codes = npt.NDArray[np.int8]
FloatMatrix = npt.NDArray[np.float32]


class Hit(NamedTuple):
    """A row of a language's shard, with its cosine similarity to the query, at most 1."""

    language: str
    row: int
    similarity: float


def fit_scale(vectors: FloatMatrix) -> float:
    """Factor from the components of unit vectors to int8 codes: the largest of ``vectors`` just fits."""
    if not vectors.size:
        return float(_LIMIT)
    largest = float(np.abs(vectors).max())
    return min(_LIMIT / largest, MAX_SCALE) if largest > 0 else float(_LIMIT)


def quantise(vectors: FloatMatrix, scale: float) -> Codes:
    """int8 codes of unit vectors, same shape; the inner product of two codes is about ``scale ** 2``
    cosines.
    """
    codes: Codes = np.clip(np.rint(vectors * np.float32(scale)), -_LIMIT, _LIMIT).astype(np.int8)
    return codes


class ContextIndex:
    """Search over the sentences of many languages.

    Args:
        scale: what ``quantise`` was called with.
        approximate_from: rows of a language from which its shard is an HNSW graph instead of exact.
    """

    def __init__(self, scale: float, *, approximate_from: int = _APPROXIMATE_FROM) -> None:
        self._scale = scale
        self._approximate_from = approximate_from
        self._shards: dict[str, _Shard] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted(self._shards))

    def add(self, language: str, codes: Codes) -> None:
        """Add or replace a language's sentences: int8 [rows, d]."""
        exact = len(codes) < self._approximate_from
        self._shards[language] = _ExactShard(codes) if exact else _GraphShard(codes)

    def remove(self, language: str) -> None:
        """Forget a language; unknown ones are ignored."""
        self._shards.pop(language, None)

    def search(
        self,
        queries: FloatMatrix,
        k: int,
        *,
        exclude: Sequence[Mapping[str, Collection[int]]] | None = None,
        languages: Collection[str] | None = None,
    ) -> list[list[Hit]]:
        """The ``k`` nearest rows of each query, most similar first; ties by language, then row.

        Fewer than ``k`` come back only where fewer exist.

        Args:
            queries: unit vectors, float32 [q, d].
            exclude: for each query, the rows of each language that do not exist for it.
            languages: search only these.

        Raises:
            InputError: ``exclude`` of another length than ``queries``.
        """
        if exclude is not None and len(exclude) != len(queries):
            raise InputError(f"expected one exclusion a query, {len(queries)}, got {len(exclude)}")
        names = [name for name in self.languages if languages is None or name in languages]
        if k <= 0 or not names or not len(queries):
            return [[] for _ in queries]
        codes = quantise(queries, self._scale).astype(np.float32)
        gone: Sequence[Mapping[str, Collection[int]]] = exclude if exclude is not None else [{}] * len(codes)
        found: list[list[Hit]] = []
        for start in range(0, len(codes), _QUERIES):
            found += self._search(codes[start : start + _QUERIES], k, gone[start : start + _QUERIES], names)
        return found

    def _search(
        self,
        codes: FloatMatrix,
        k: int,
        exclude: Sequence[Mapping[str, Collection[int]]],
        names: Sequence[str],
    ) -> list[list[Hit]]:
        found: list[list[Hit]] = [[] for _ in codes]
        pending = list(range(len(codes)))
        fetch = k + _SLACK + max(len(rows) for each in exclude for rows in (*each.values(), ()))
        while pending:
            candidates = self._candidates(codes[pending], fetch, names)
            unfinished = []
            for position, query in enumerate(pending):
                hits = candidates.best(position, k, exclude[query])
                if hits is None:
                    unfinished.append(query)
                else:
                    found[query] = [Hit(name, row, min(dot / self._scale**2, 1.0)) for name, row, dot in hits]
            pending = unfinished
            fetch *= 4
        return found

    def _candidates(self, codes: FloatMatrix, fetch: int, names: Sequence[str]) -> _Candidates:
        """The best ``fetch`` rows of every shard, merged."""
        dots, rows, shards, ends = [], [], [], []
        for number, name in enumerate(names):
            shard = self._shards[name]
            size = min(fetch, len(shard))
            if size == 0:
                continue
            dot, row = shard.search(codes, size)
            dots.append(dot)
            rows.append(row)
            shards.append(np.full(size, number, dtype=np.int64))
            # What a shard has not shown is at most as good as the worst it has shown.
            complete = (row < 0).any(axis=1) | (size == len(shard))
            ends.append(np.where(complete, -np.inf, dot.min(axis=1)))
        if not dots:
            return _Candidates.empty(len(codes), names)
        return _Candidates(
            np.concatenate(dots, axis=1),
            np.concatenate(rows, axis=1),
            np.concatenate(shards),
            np.stack(ends, axis=1).max(axis=1),
            names,
        )


class _Shard(Protocol):
    """The vectors of one language."""

    def __len__(self) -> int: ...

    def search(self, queries: FloatMatrix, size: int) -> tuple[FloatMatrix, npt.NDArray[np.int64]]:
        """The ``size`` largest inner products [q, size] and their rows, in any order; -inf and -1 for
        none.
        """
        ...


class _ExactShard:
    """All inner products, by one matrix product.

    Twice to four times as fast as FAISS's flat index for batches of 64 on one core: the largest of every
    ``_GROUP`` products comes from vector instructions, and only the best groups are looked into.
    """

    def __init__(self, codes: Codes) -> None:
        self._rows = len(codes)
        self._groups = -(-len(codes) // _GROUP)
        # Row r stands in column r, and so in group r % groups.
        self._columns = np.zeros((codes.shape[1], self._groups * _GROUP), dtype=np.float32)
        self._columns[:, : self._rows] = codes.T

    def __len__(self) -> int:
        return self._rows

    def search(self, queries: FloatMatrix, size: int) -> tuple[FloatMatrix, npt.NDArray[np.int64]]:
        dots = queries @ self._columns
        dots[:, self._rows :] = -np.inf
        if size < self._groups:
            best = dots.reshape(len(queries), _GROUP, self._groups).max(axis=1)
            groups = _largest(best, size)
            rows = (groups[:, :, None] + np.arange(_GROUP) * self._groups).reshape(len(queries), -1)
            dots = np.take_along_axis(dots, rows, axis=1)
        else:
            rows = np.broadcast_to(np.arange(dots.shape[1]), dots.shape)
        order = _largest(dots, size)
        return np.take_along_axis(dots, order, axis=1), np.take_along_axis(rows, order, axis=1)


class _GraphShard:
    """An HNSW graph (Malkov and Yashunin 2018), for more vectors than a product with all of them allows."""

    def __init__(self, codes: Codes) -> None:
        import faiss

        self._index: Any = faiss.IndexHNSWFlat(codes.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self._index.add(codes.astype(np.float32))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: FloatMatrix, size: int) -> tuple[FloatMatrix, npt.NDArray[np.int64]]:
        self._index.hnsw.efSearch = max(64, 2 * size)
        dots, rows = self._index.search(queries, size)
        return np.where(rows >= 0, dots, -np.inf), rows


def _largest(values: FloatMatrix, size: int) -> npt.NDArray[np.int64]:
    """Columns of the ``size`` largest values of each row, in any order."""
    if size >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, values.shape[1] - size, axis=1)[:, -size:]


class _Candidates:
    """Rows fetched from all shards for a batch of queries, in the final order."""

    def __init__(
        self,
        dots: FloatMatrix,
        rows: npt.NDArray[np.int64],
        shards: npt.NDArray[np.int64],
        unseen: FloatMatrix,
        names: Sequence[str],
    ) -> None:
        shard = np.broadcast_to(shards, rows.shape)
        order = np.lexsort((rows, shard, -dots), axis=1)
        self._dots = np.take_along_axis(dots, order, axis=1).tolist()
        self._rows = np.take_along_axis(rows, order, axis=1).tolist()
        self._shards = np.take_along_axis(shard, order, axis=1).tolist()
        self._unseen = unseen.tolist()
        self._names = names

    @classmethod
    def empty(cls, count: int, names: Sequence[str]) -> _Candidates:
        nothing = np.zeros((count, 0), dtype=np.int64)
        unseen = np.full(count, -np.inf, dtype=np.float32)
        return cls(nothing.astype(np.float32), nothing, np.zeros(0, dtype=np.int64), unseen, names)

    def best(
        self, position: int, k: int, exclude: Mapping[str, Collection[int]]
    ) -> list[tuple[str, int, float]] | None:
        """The ``k`` best of one query; None where a row not fetched could belong to them."""
        hits: list[tuple[str, int, float]] = []
        unseen = self._unseen[position]
        for dot, row, shard in zip(self._dots[position], self._rows[position], self._shards[position], strict=True):
            if row < 0:
                break
            if dot <= unseen:
                return None
            name = self._names[shard]
            if row not in exclude.get(name, ()):
                hits.append((name, row, dot))
                if len(hits) == k:
                    return hits
        return hits if unseen == -np.inf else None
