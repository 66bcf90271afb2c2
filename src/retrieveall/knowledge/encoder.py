"""Texts to vectors: the ``Encoder`` protocol, the embedded n-gram encoder, and sentence-transformers by name.

An encoder knows nothing of languages, labels or indexes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retrieveall.errors import ConfigError, MissingExtraError, ModelFolderError
from retrieveall.knowledge.files import read_tensors, write_tensors
from retrieveall.storage import read_json, write_atomic

__all__ = [
    "Encoder",
    "NgramEncoder",
    "SentenceTransformerEncoder",
    "fingerprint",
    "make_encoder",
    "open_encoder",
    "save_encoder",
]

FloatMatrix = npt.NDArray[np.float32]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hashing
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_CHUNK_CHARACTERS = 1 << 15  # bounds the memory of one step: about 4 n-grams a character, ``dimension`` floats each
_DENSE = 256  # rows or columns up to which a matrix is decomposed whole; svds cannot give all of its directions
_NO_VARIANCE = 1e-5  # of the largest singular value: what is below comes from rounding
_MAX_CHARACTERS = 1 << 12  # a text's vector is that of its beginning: enough for language and topic, linear in time


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """What ``make_encoder`` accepts to build this encoder."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``, float32 [n, dimension], rows of L2 norm 1, or 0 for a text that says nothing."""
        ...


class NgramEncoder:
    """Hashed character n-grams, sub-linear TF-IDF, projected by a truncated SVD (latent semantic analysis).

    The weight of an n-gram in a text is ``(1 + ln tf) * idf`` with ``idf = ln((1 + n) / (1 + df)) + 1``; the
    projection is onto the leading right singular vectors of that matrix over the fitting texts (Deerwester et
    al. 1990). ``idf`` is folded into the projection, so that encoding is a sum of rows.

    Args:
        projection: float32 [buckets, dimension], ``buckets`` a power of two.
        orders: the shortest and the longest n-gram, in code points.
    """

    name = "ngram"

    def __init__(self, projection: FloatMatrix, orders: tuple[int, int] = (1, 3)) -> None:
        buckets = projection.shape[0]
        if buckets < 2 or buckets & (buckets - 1):
            raise ConfigError(f"the n-gram encoder needs a power of two of buckets, got {buckets}")
        if not 1 <= orders[0] <= orders[1] <= 8:
            raise ConfigError(f"the n-gram encoder needs orders from 1 to 8, shortest first, got {orders}")
        self._projection = np.ascontiguousarray(projection, dtype=np.float32)
        self._orders = orders

    @property
    def dimension(self) -> int:
        return int(self._projection.shape[1])

    @property
    def buckets(self) -> int:
        """Number of hash buckets that the n-grams share."""
        return int(self._projection.shape[0])

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        *,
        dimension: int = 64,
        buckets: int = 1 << 15,
        orders: tuple[int, int] = (1, 3),
        sample: int = 40_000,
        seed: int = 0,
    ) -> NgramEncoder:
        """Fit idf and projection on at most ``sample`` of ``texts``, drawn with ``seed``."""
        from scipy import sparse

        random = np.random.default_rng(seed)
        if len(texts) > sample:
            texts = [texts[i] for i in np.sort(random.choice(len(texts), sample, replace=False))]
        rows, columns, weights = _term_frequencies(texts, buckets, orders)
        idf = np.log((1 + len(texts)) / (1 + np.bincount(columns, minlength=buckets))).astype(np.float32) + 1
        matrix = sparse.csr_matrix((weights * idf[columns], (rows, columns)), shape=(len(texts), buckets))
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        matrix = sparse.diags(1 / np.maximum(norms, 1e-12)) @ matrix
        directions = _right_singular_vectors(matrix.astype(np.float32).tocsr(), dimension, random)
        projection, scales = _quantise_rows(directions * idf[:, None])
        return cls(_restore_rows(projection, scales), orders)

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``, float32 [n, dimension]; the row of an empty text is 0."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        start, size = 0, 0
        for i, text in enumerate(texts):
            size += min(len(text), _MAX_CHARACTERS)
            if size >= _CHUNK_CHARACTERS or i + 1 == len(texts):
                self._encode_chunk(texts[start : i + 1], out[start : i + 1])
                start, size = i + 1, 0
        return out

    def _encode_chunk(self, texts: Sequence[str], out: FloatMatrix) -> None:
        rows, columns, weights = _term_frequencies(texts, self.buckets, self._orders)
        if not rows.size:
            return
        terms = self._projection[columns]
        terms *= weights[:, None]
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        sums = np.add.reduceat(terms, starts, axis=0)
        norms = np.sqrt(np.einsum("nd,nd->n", sums, sums))[:, None]
        out[rows[starts]] = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)

    def save(self, folder: Path) -> None:
        """Write ``projection.safetensors``: int8 rows [buckets, dimension] with a float16 scale each."""
        codes, scales = _quantise_rows(self._projection)
        tensors: dict[str, npt.NDArray[Any]] = {
            "projection": codes,
            "scales": scales,
            "orders": np.array(self._orders, dtype=np.int32),
        }
        write_tensors(folder / "projection.safetensors", tensors)

    def fingerprint(self) -> str:
        """A hash of what the vectors depend on."""
        digest = hashlib.sha256(f"{self._orders} {self._projection.shape} ".encode())
        digest.update(self._projection.tobytes())
        return digest.hexdigest()

    @classmethod
    def open(cls, folder: Path) -> NgramEncoder:
        """Read what ``save`` wrote.

        Raises:
            ModelFolderError: missing or malformed file.
        """
        path = folder / "projection.safetensors"
        tensors = read_tensors(path, {"projection": (np.int8, 2), "scales": (np.float16, 1), "orders": (np.int32, 1)})
        codes, scales, orders = tensors["projection"], tensors["scales"], tensors["orders"]
        if len(scales) != len(codes) or len(orders) != 2:
            raise ModelFolderError(f"{path}: expected one scale a row and two orders; the file is damaged")
        try:
            return cls(_restore_rows(codes, scales), (int(orders[0]), int(orders[1])))
        except ConfigError as error:
            raise ModelFolderError(f"{path}: {error}") from None


class SentenceTransformerEncoder:
    """A sentence-transformers model by path or hub id; loaded on first use, never with remote code.

    Raises:
        MissingExtraError: on first use, when sentence-transformers is not installed (extra ``encoders``).
    """

    def __init__(self, model: str, *, batch_size: int = 64) -> None:
        self._model_name = model
        self._batch_size = batch_size
        self._model: Any = None

    @property
    def name(self) -> str:
        return self._model_name

    @property
    def dimension(self) -> int:
        return int(self._load().get_sentence_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``, float32 [n, dimension]."""
        vectors = self._load().encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)

    def _load(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError:
                purpose = f"the encoder '{self._model_name}'"
                raise MissingExtraError("sentence-transformers", "encoders", purpose) from None
            self._model = SentenceTransformer(self._model_name, trust_remote_code=False)
        return self._model


def make_encoder(spec: str, texts: Sequence[str] = ()) -> Encoder:
    """The encoder named ``spec``: ``"ngram"``, fitted on ``texts``, or a sentence-transformers model.

    Raises:
        ConfigError: ``"ngram"`` without texts to fit it on, or an empty name.
    """
    if not spec:
        raise ConfigError("expected an encoder, 'ngram' or the name of a sentence-transformers model, got ''")
    if spec != NgramEncoder.name:
        return SentenceTransformerEncoder(spec)
    if not texts:
        raise ConfigError("the encoder 'ngram' is fitted on the pool, got no texts; pass the training sentences")
    return NgramEncoder.fit(texts)


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write ``encoder.json`` with the name and, for an encoder of our own, its state."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, NgramEncoder):
        encoder.save(folder)
    write_atomic(folder / "encoder.json", (json.dumps({"name": encoder.name}) + "\n").encode())


def open_encoder(folder: Path) -> Encoder:
    """The encoder that ``save_encoder`` wrote.

    Raises:
        ModelFolderError: missing or malformed file.
    """
    path = folder / "encoder.json"
    name = read_json(path).get("name")
    if not isinstance(name, str) or not name:
        raise ModelFolderError(f"{path}: expected the name of an encoder, got {str(name)[:80]!r}; index again")
    return NgramEncoder.open(folder) if name == NgramEncoder.name else SentenceTransformerEncoder(name)


def fingerprint(encoder: Encoder) -> str:
    """A hash of what the vectors depend on; of an encoder that is not ours, the name is all that is known."""
    own = encoder.fingerprint() if isinstance(encoder, NgramEncoder) else ""
    return hashlib.sha256(json.dumps([encoder.name, own]).encode()).hexdigest()


def _term_frequencies(
    texts: Sequence[str], buckets: int, orders: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatMatrix]:
    """Rows, buckets and weights ``1 + ln tf`` of the n-grams of ``texts``, sorted by row, then bucket."""
    padded = [f" {text[:_MAX_CHARACTERS].lower().strip()} " for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    joined = "".join(padded).encode("utf-32-le", "surrogatepass")  # a lone surrogate is a character like any other
    codes = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    rows = np.repeat(np.arange(len(padded)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # characters up to the end of the text
    bits = np.uint64(64 - (buckets.bit_length() - 1))
    keys = []
    state = np.zeros(len(codes), dtype=np.uint64)
    for order in range(1, orders[1] + 1):
        size = len(codes) - order + 1
        if size <= 0:
            break
        state = (state[:size] + codes[order - 1 :] + np.uint64(1)) * _MULTIPLIER
        state ^= state >> np.uint64(29)
        if order < orders[0]:
            continue
        inside = np.flatnonzero((left[:size] >= order) & (lengths[rows[:size]] > 2))
        bucket = (state[inside] * _MIXER) >> bits
        keys.append(rows[inside] * buckets + bucket.astype(np.int64))
    merged = np.sort(np.concatenate(keys)) if keys else np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.r_[True, merged[1:] != merged[:-1]]) if merged.size else merged
    frequency = np.diff(np.r_[first, merged.size])
    unique = merged[first]
    return unique // buckets, unique % buckets, (1 + np.log(frequency)).astype(np.float32)


def _right_singular_vectors(matrix: Any, rank: int, random: np.random.Generator) -> FloatMatrix:
    """Leading right singular vectors of a sparse matrix [n, m], as float32 [m, rank]; 0 beyond the matrix's rank."""
    from scipy.sparse.linalg import svds

    out = np.zeros((matrix.shape[1], rank), dtype=np.float32)
    if not matrix.nnz:
        return out
    if min(matrix.shape) <= max(rank, _DENSE):
        _, values, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    else:
        start = random.standard_normal(min(matrix.shape)).astype(np.float32)  # or every call gives other signs
        _, values, right = svds(matrix, k=rank, v0=start)
    order = np.argsort(-values)[:rank]
    order = order[values[order] > _NO_VARIANCE * values.max()]
    out[:, : len(order)] = right[order].T
    return out


def _quantise_rows(matrix: FloatMatrix) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """int8 codes [n, d] and float16 scales [n], so that ``codes * scales[:, None]`` is close to ``matrix``."""
    scales = (np.abs(matrix).max(axis=1) / 127).astype(np.float16)
    wide = np.maximum(scales.astype(np.float32), 1e-12)[:, None]
    return np.clip(np.rint(matrix / wide), -127, 127).astype(np.int8), scales


def _restore_rows(codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> FloatMatrix:
    """What ``_quantise_rows`` was given, float32 [n, d]."""
    return codes.astype(np.float32) * scales[:, None].astype(np.float32)
