"""Encoders that ``recipes.measure.retrieval`` compares with the library's n-grams.

A pretrained model with its sentence vectors, its embedding table alone, and what can be made of other encoders: without
their common direction, or two together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieveall.config import BackboneConfig, ModelConfig
from retrieveall.engines.local.backbone import open_backbone
from retrieveall.engines.local.compact_encoder import CompactBert
from retrieveall.engines.local.fast_linear import use_precision
from retrieveall.knowledge import Encoder
from retrieveall.tokens import load_tokenizer

__all__ = ["BackboneEncoder", "CentredEncoder", "JoinedEncoder", "RandomEncoder", "RememberingEncoder", "TableEncoder"]

FloatMatrix = npt.NDArray[np.float32]

_TOKENS = 2048  # of a batch
_LONGEST = 512  # tokens of a text; its beginning tells the language


class BackboneEncoder:
    """The mean of a pretrained encoder's last states, of unit length.

    Args:
        config: settings of a model; all but ``backbone.path`` count, such as the precision of the products.
        folder: of the pretrained encoder.
        prefix: stands before each text, as the encoder was trained.
    """

    def __init__(self, name: str, config: ModelConfig, folder: Path, *, prefix: str = "query: ") -> None:
        path = str(folder.absolute())
        backbone = config.backbone.model_copy(update={"path": path, "revision": None})
        self._model = open_backbone(config.model_copy(update={"backbone": backbone}), folder, torch.device("cpu"))
        use_precision(self._model, backbone.cpu_precision)
        self._tokenizer = open_tokenizer(path)
        self._prefix = prefix
        self.name = name
        self.megabytes = folder_megabytes(folder)

    @property
    def dimension(self) -> int:
        return int(self._model.config.hidden_size)

    @property
    def table(self) -> Any:
        """The embedding of each token, a module."""
        return self._model.get_input_embeddings()

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``; one is in the same batch as others of about its length."""
        rows = [each.ids for each in self._tokenizer.encode_batch([self._prefix + text for text in texts])]
        out = np.zeros((len(rows), self.dimension), dtype=np.float32)
        batch: list[int] = []
        for number in sorted(range(len(rows)), key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[number]) > _TOKENS:
                out[batch] = self._means([rows[i] for i in batch])
                batch = []
            batch.append(number)
        if batch:
            out[batch] = self._means([rows[i] for i in batch])
        return unit(out)

    def _means(self, rows: Sequence[Sequence[int]]) -> FloatMatrix:
        lengths = [len(row) for row in rows]
        states: Tensor
        if isinstance(self._model, CompactBert):
            states = self._model(torch.tensor([token for row in rows for token in row]), lengths)
        else:
            ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
            for line, row in zip(ids, rows, strict=True):
                line[: len(row)] = torch.tensor(row)
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            found = self._model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
            states = found.last_hidden_state[mask]
        means = [part.mean(dim=0) for part in torch.split(states.float(), lengths)]
        vectors: FloatMatrix = torch.stack(means).numpy()
        return vectors


class TableEncoder:
    """The mean of the embeddings of a text's tokens, weighted by ``idf = ln((1 + n) / (1 + df)) + 1``; nothing runs.

    Args:
        texts: what idf is counted in.
    """

    def __init__(self, name: str, backbone: BackboneEncoder, texts: Sequence[str]) -> None:
        self.name = name
        self._table, self._tokenizer = backbone.table, backbone.tokenizer
        self.dimension = backbone.dimension
        seen: dict[int, int] = {}
        for row in self._rows(texts):
            for token in set(row):
                seen[token] = seen.get(token, 0) + 1
        self._idf = {token: math.log((1 + len(texts)) / (1 + count)) + 1 for token, count in seen.items()}
        self._unseen = math.log(1 + len(texts)) + 1

    @property
    def megabytes(self) -> float:
        """Of the table as 16-bit numbers."""
        return float(self._tokenizer.get_vocab_size() * self.dimension * 2 / 1e6)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``; 0 for a text without tokens."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for line, row in zip(out, self._rows(texts), strict=True):
            if row:
                weights = torch.tensor([self._idf.get(token, self._unseen) for token in row])
                line[:] = (weights @ self._table(torch.tensor(row)).float()).numpy()
        return unit(out)

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


class CentredEncoder:
    """Vectors of another encoder less the mean of ``texts``, which all texts share, and of unit length again."""

    def __init__(self, name: str, encoder: Encoder, texts: Sequence[str]) -> None:
        self.name = name
        self.dimension = encoder.dimension
        self._encoder = encoder
        self._mean = encoder.encode(texts).mean(axis=0)

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``."""
        return unit(self._encoder.encode(texts) - self._mean)


class JoinedEncoder:
    """Two encoders beside each other: the cosine is the mean of their two."""

    def __init__(self, name: str, first: Encoder, second: Encoder) -> None:
        self.name = name
        self.dimension = first.dimension + second.dimension
        self._parts = first, second

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``."""
        return unit(np.concatenate([part.encode(texts) for part in self._parts], axis=1))


class RandomEncoder:
    """A vector that says nothing of a text: what any encoder has to beat."""

    name = "random"
    dimension = 32

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``, always the same ones for the same text."""
        seeds = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
        rows = [np.random.default_rng(int.from_bytes(seed, "little")).standard_normal(self.dimension) for seed in seeds]
        return unit(np.array(rows, dtype=np.float32).reshape(len(rows), self.dimension))


class RememberingEncoder:
    """Another encoder that encodes no text twice."""

    def __init__(self, encoder: Encoder) -> None:
        self.name = encoder.name
        self.dimension = encoder.dimension
        self._encoder = encoder
        self._known: dict[str, FloatMatrix] = {}

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of ``texts``."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, self.dimension), np.float32)


def unit(vectors: FloatMatrix) -> FloatMatrix:
    """Rows of L2 norm 1; a row of 0 stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: FloatMatrix = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return scaled


def open_tokenizer(path: str) -> Any:
    """The tokenizer of a folder, without padding."""
    backend = load_tokenizer(BackboneConfig(path=path), None).backend
    backend.no_padding()
    backend.enable_truncation(_LONGEST)
    return backend


def folder_megabytes(folder: Path) -> float:
    """Of the weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
