"""Nearest training sentences: exact inner-product search over one shard of vectors per language.

Knows rows and vectors, never text. Vectors are small integers, so their inner products are exact in float32
and do not depend on batch size, order of summation or machine: the same query always has the same neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from retrieveall.errors import InputError, MissingExtraError

__all__ = ["MAX_SCALE", "ContextIndex", "Hit", "fit_scale", "quantise"]

_LIMIT = 127
MAX_SCALE = 4000.0  # scale^2 bounds every partial sum of an inner product and must stay below 2^24
_APPROXIMATE_FROM = 1_000_000
_GROUP = 16
_QUERIES = 64  # at once: their products with one shard should stay in the cache
_LEAST = np.finfo(np.float32).min  # more than the -inf of rows that do not count

Codes = npt.NDArray[np.int8]
FloatMatrix = npt.NDArray[np.float32]
_Nearest = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # inner products, largest first, and their rows


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
    """int8 codes of unit vectors, same shape; the inner product of two codes is about ``scale ** 2`` cosines."""
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

    def of(self, languages: Collection[str]) -> ContextIndex:
        """An index of those of ``languages`` that this one has; it shares their vectors."""
        index = ContextIndex(self._scale, approximate_from=self._approximate_from)
        index._shards = {name: shard for name, shard in self._shards.items() if name in languages}
        return index

    def add(self, language: str, codes: Codes) -> None:
        """Add or replace a language's sentences: int8 [rows, d].

        Raises:
            MissingExtraError: so many sentences that faiss is needed, which is not installed (extra ``faiss``).
        """
        exact = len(codes) < self._approximate_from
        self._shards[language] = _ExactShard(codes) if exact else _GraphShard(codes)

    def search(
        self,
        queries: FloatMatrix,
        k: int,
        *,
        exclude: Sequence[Mapping[str, Collection[int]]] | None = None,
        languages: Collection[str] | None = None,
    ) -> list[list[Hit]]:
        """The ``k`` nearest rows of each query, as in ``compare``."""
        return [hits for hits, _ in self.compare(queries, k, exclude=exclude, languages=languages)]

    def compare(
        self,
        queries: FloatMatrix,
        k: int,
        *,
        exclude: Sequence[Mapping[str, Collection[int]]] | None = None,
        languages: Collection[str] | None = None,
    ) -> list[tuple[list[Hit], dict[str, float]]]:
        """The ``k`` nearest rows of each query, most similar first, and the best similarity in each language.

        Ties go by language, then row. Fewer than ``k`` come back only where fewer exist; a language without rows has no
        best similarity, and with ``k`` 0 none has.

        Args:
            queries: unit vectors, float32 [q, d].
            exclude: for each query, the rows of each language that do not exist for it.
            languages: search only these.

        Raises:
            InputError: ``exclude`` of another length than ``queries``.
        """
        if exclude is None:
            exclude = [{}] * len(queries)
        if len(exclude) != len(queries):
            raise InputError(f"expected one exclusion a query, {len(queries)}, got {len(exclude)}")
        names = [name for name in self.languages if languages is None or name in languages]
        if k <= 0:
            return [([], {}) for _ in queries]
        codes = quantise(queries, self._scale).astype(np.float32)
        found: list[tuple[list[Hit], dict[str, float]]] = []
        for start in range(0, len(codes), _QUERIES):
            found += self._search(codes[start : start + _QUERIES], k, exclude[start : start + _QUERIES], names)
        return found

    def _search(
        self, codes: FloatMatrix, k: int, exclude: Sequence[Mapping[str, Collection[int]]], names: Sequence[str]
    ) -> list[tuple[list[Hit], dict[str, float]]]:
        candidates: list[list[tuple[float, str, int]]] = [[] for _ in codes]
        best: list[dict[str, float]] = [{} for _ in codes]
        for name in names:
            nearest = self._shards[name].search(codes, k, [rows.get(name, ()) for rows in exclude])
            for some, first, (dots, rows) in zip(candidates, best, nearest, strict=True):
                if len(dots) and np.isfinite(dots[0]):
                    first[name] = self._similarity(float(dots[0]))
                some += [(dot, name, row) for dot, row in zip(dots.tolist(), rows.tolist(), strict=True)]
        # Sorting is stable: ties stay in the order of languages and rows.
        chosen = (sorted(some, key=itemgetter(0), reverse=True)[:k] for some in candidates)
        hits = ([Hit(name, row, self._similarity(dot)) for dot, name, row in some] for some in chosen)
        return list(zip(hits, best, strict=True))

    def _similarity(self, dot: float) -> float:
        return min(dot / self._scale**2, 1.0)


class _Shard(Protocol):
    """The vectors of one language."""

    def search(self, queries: FloatMatrix, k: int, exclude: Sequence[Collection[int]]) -> Iterator[_Nearest]:
        """The ``k`` nearest rows of each query but those to ``exclude``; ties by row."""
        ...


class _ExactShard:
    """All inner products, by one matrix product.

    The largest of every ``_GROUP`` products comes from vector instructions, and the k-th largest of those is a lower
    bound of what is looked for: so few products reach it that the rest costs little. ``numpy.argpartition`` over all
    takes up to ten times as long, depending on the processor.
    """

    def __init__(self, codes: Codes) -> None:
        groups = -(-len(codes) // _GROUP)
        self._columns = np.zeros((codes.shape[1], groups * _GROUP), dtype=np.float32)
        self._columns[:, : len(codes)] = codes.T
        self._rows = len(codes)

    def search(self, queries: FloatMatrix, k: int, exclude: Sequence[Collection[int]]) -> Iterator[_Nearest]:
        dots = queries @ self._columns
        dots[:, self._rows :] = -np.inf
        for line, rows in zip(dots, exclude, strict=True):
            if rows:
                line[list(rows)] = -np.inf
        for line, bound in zip(dots, _bounds(dots, k), strict=True):
            found = np.flatnonzero(line >= bound)
            yield _nearest(line[found], found, k)


class _GraphShard:
    """An HNSW graph (Malkov and Yashunin 2018), for more vectors than a product with all of them allows."""

    def __init__(self, codes: Codes) -> None:
        try:
            import faiss
        except ImportError:
            purpose = f"searching {len(codes):,} sentences of one language"
            raise MissingExtraError("faiss-cpu", "faiss", purpose) from None
        self._index: Any = faiss.IndexHNSWFlat(codes.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self._index.add(codes.astype(np.float32))

    def search(self, queries: FloatMatrix, k: int, exclude: Sequence[Collection[int]]) -> Iterator[_Nearest]:
        fetch = min(k + max(map(len, exclude), default=0), self._index.ntotal)
        self._index.hnsw.efSearch = max(64, 2 * fetch)
        for dots, rows, gone in zip(*self._index.search(queries, fetch), exclude, strict=True):
            kept = (rows >= 0) & ~np.isin(rows, list(gone))
            yield _nearest(dots[kept], rows[kept], k)


def _bounds(dots: FloatMatrix, k: int) -> FloatMatrix:
    """For each row, a value that at least the ``k`` largest reach, and few others; ``_LEAST`` where they are fewer."""
    groups = dots.shape[1] // _GROUP
    if k >= groups:
        return np.full(len(dots), _LEAST, dtype=np.float32)
    # Column c is in group c % groups: so the maximum is taken over whole rows of memory.
    largest = dots.reshape(len(dots), _GROUP, groups).max(axis=1)
    bounds: FloatMatrix = np.maximum(np.partition(largest, groups - k, axis=1)[:, groups - k], _LEAST)
    return bounds


def _nearest(dots: FloatMatrix, rows: npt.NDArray[np.int64], k: int) -> _Nearest:
    order = np.lexsort((rows, -dots))[:k]
    return dots[order], rows[order]
