"""The engine that runs a Hugging Face causal language model and the adapter bank in this process, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieveall.adapters import AdapterPool, backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import ModelConfig
from retrieveall.engines.base import Failure, ScoreRequest, Scores, WriteRequest, Written
from retrieveall.engines.local.backbone import check_length, open_backbone
from retrieveall.engines.local.compact_encoder import CompactBert
from retrieveall.engines.local.fast_linear import use_precision
from retrieveall.engines.local.forward import attention_mask, output_embedding, score_states, score_tokens
from retrieveall.engines.local.writer import AnswerWriter
from retrieveall.errors import InputError, NonFiniteError
from retrieveall.tokens import TokenCodec, load_tokenizer

__all__ = ["LocalEngine", "choose_device"]

# Fits the cache of one core; larger batches were not faster on a CPU and used 50 MB more.
_TOKENS_PER_BATCH = {"cpu": 1024}
_TOKENS_ON_GPU = 16384


class LocalEngine:
    """Runs requests in length-sorted batches; rows of one batch may use different adapters and mixtures.

    Args:
        model: a causal language model of transformers, frozen.
        bank: the adapter bank attached to ``model``.
        full_attention: remove the causal mask when scoring.
        forward: replaces ``score_tokens`` of the model if the backbone is sharded.
    """

    def __init__(
        self,
        model: Any,
        bank: AdapterBank,
        codec: TokenCodec,
        *,
        full_attention: bool,
        forward: Callable[..., Tensor] | None = None,
    ) -> None:
        self.model, self.bank, self.codec = model, bank, codec
        self._full = full_attention
        self._padded = not isinstance(model, CompactBert)
        self._forward = forward or (lambda *inputs: score_tokens(model, *inputs))
        self._writers: dict[Any, AnswerWriter] = {}

    @classmethod
    def open(cls, config: ModelConfig, folder: Path, *, device: str | None = None) -> LocalEngine:
        """The engine of a model folder.

        Args:
            device: such as "cpu", "cuda", "cuda:1"; None: the GPU if there is one, else the CPU.

        Raises:
            InputError: no such device.
            ConfigError: prompt lengths above the backbone's maximum.
            ModelFolderError: as ``load_backbone``.
        """
        place = choose_device(device)
        codec = TokenCodec(load_tokenizer(config.backbone, folder), config.decoder.spacing)
        model = open_backbone(config, folder, place)
        check_length(config, model)
        model.to(place)
        pool = AdapterPool(folder, backbone_fingerprint(model))
        if place.type == "cpu" and config.backbone.dtype == "float32":
            use_precision(model, config.backbone.cpu_precision)  # after the fingerprint, which is of the weights
        bank = AdapterBank.attach(model, pool, merge=True)
        return cls(model, bank, codec, full_attention=config.decoder.full_attention)

    @property
    def device(self) -> torch.device:
        """The device of the embeddings and so of the inputs."""
        embedding = output_embedding(self.model)
        device: torch.device = getattr(embedding, "weight", embedding).device
        return device

    @property
    def unforkable(self) -> str | None:
        """A CUDA context belongs to the process that created it."""
        return None if self.device.type == "cpu" else "it runs on a GPU"

    def refresh(self) -> None:
        """Unload adapters that may have changed or been removed; they are loaded again when needed."""
        for language in self.bank.languages:
            self.bank.remove(language)

    def close(self) -> None:
        """Nothing to release."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """Logits float32 [positions, candidates] of each request, in order.

        Raises:
            NonFiniteError: the model computes NaN or infinity.
        """
        results: list[Scores | Failure] = [
            np.zeros((0, len(request.candidates)), dtype=np.float32) for request in requests
        ]
        for batch in self._batches(requests):
            for i, rows in zip(batch, self._score([requests[i] for i in batch]), strict=True):
                results[i] = rows
        return results

    def write(self, requests: Sequence[WriteRequest]) -> list[Written | Failure]:
        """The answer to each request, in order.

        Raises:
            ConfigError: the tokenizer has no end token, or cannot write the labels.
            NonFiniteError: the model computes NaN or infinity.
        """
        results: list[Written | Failure] = [Written()] * len(requests)
        groups: dict[Any, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault((request.labels, request.spacing, request.constrained), []).append(i)
        for key, group in groups.items():
            written = self.writer(*key).write([requests[i] for i in group])
            for i, one in zip(group, written, strict=True):
                results[i] = one
        return results

    def writer(self, *key: Any) -> AnswerWriter:
        """The writer for these labels and spacing, with or without the grammar."""
        if key not in self._writers:
            self._writers[key] = AnswerWriter(self.model, self.bank, self.codec, *key)
        return self._writers[key]

    def _batches(self, requests: Sequence[ScoreRequest]) -> Iterator[list[int]]:
        """Batches of indices with equal candidates, inside a batch sorted by adapters and then by length.

        Where rows are padded, those of a batch have similar lengths. Otherwise a batch has few adapters, so that many
        tokens share a merged weight.
        """
        limit = _TOKENS_PER_BATCH.get(self.device.type, _TOKENS_ON_GPU)

        def size(i: int) -> int:
            return len(requests[i].ids)

        def adapters(i: int) -> tuple[object, int]:
            return sorted(requests[i].adapters.items()), size(i)

        some = [i for i, each in enumerate(requests) if each.positions]
        batch: list[int] = []
        tokens = 0
        for i in sorted(some, key=size if self._padded else adapters):
            tokens = size(i) * (len(batch) + 1) if self._padded else tokens + size(i)
            if batch and (tokens > limit or requests[i].candidates != requests[batch[0]].candidates):
                yield sorted(batch, key=adapters)
                batch, tokens = [], size(i)
            batch.append(i)
        if batch:
            yield sorted(batch, key=adapters)

    def _score(self, rows: Sequence[ScoreRequest]) -> list[Scores]:
        logits = self._score_padded(rows) if self._padded else self._score_unpadded(rows)
        if not torch.isfinite(logits).all():
            raise NonFiniteError
        return [part.numpy() for part in torch.split(logits.cpu(), [len(row.positions) for row in rows])]

    @torch.inference_mode()
    def _score_unpadded(self, rows: Sequence[ScoreRequest]) -> Tensor:
        """Logits [positions of all rows, candidates] of a model that takes rows one after the other."""
        lengths, adapters = [len(row.ids) for row in rows], [row.adapters for row in rows]
        starts = [0, *accumulate(lengths)]
        positions = torch.tensor([start + i for start, row in zip(starts, rows, strict=False) for i in row.positions])
        with self.bank.use(adapters, lengths):
            x, seen = self.model.attend(torch.tensor([i for row in rows for i in row.ids]), lengths)
        with self.bank.use(adapters, [len(row.positions) for row in rows]):
            states = self.model.finish(x[positions], seen[positions])
        return score_states(self.model, states, torch.tensor(rows[0].candidates))

    @torch.inference_mode()
    def _score_padded(self, rows: Sequence[ScoreRequest]) -> Tensor:
        """As ``_score_unpadded``, of a model that takes rows of the same length."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.codec.pad, dtype=torch.long)
        segments = torch.zeros((len(rows), longest), dtype=torch.long)
        for b, row in enumerate(rows):
            ids[b, : len(row.ids)] = torch.tensor(row.ids)
            segments[b, : len(row.ids)] = 1
        positions = torch.tensor([b * longest + i for b, row in enumerate(rows) for i in row.positions])
        candidates = torch.tensor(rows[0].candidates)
        ids, segments, positions, candidates = (x.to(self.device) for x in (ids, segments, positions, candidates))
        mask = attention_mask(segments, full=self._full, dtype=self.model.dtype)
        with self.bank.use([row.adapters for row in rows]):
            return self._forward(ids, mask, positions, candidates)


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None: the GPU if there is one, else the CPU.

    Raises:
        InputError: no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        detail = str(error).splitlines()[0]
        raise InputError(f"expected a device such as 'cpu' or 'cuda:0', got {name!r}: {detail}") from None
    return device
