"""Masked words, the first training of the backbone: a Llama that sees whole sentences learns to fill in what is hidden.

The loss is a sampled softmax: hidden tokens are told apart from the batch's other ones and some more, drawn by their
frequency. Subtracting the log of how likely a token is drawn makes it an estimate of the full loss (Jean et al. 2015).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.corpora import Lines, Sentences
from recipes.mini.settings import BackboneSettings, MaskedWordsSettings, TextSettings
from recipes.mini.tokenizer import MASK, SPECIAL_TOKENS, open_tokenizer, word_encoder
from retrieveall.engines.local.forward import attention_mask, score_tokens
from retrieveall.training.packing import Layout, RunPlan, plan_rows

__all__ = ["MaskedBatches", "MaskedWords", "create_backbone", "drawn_as_candidates", "tokenise"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]


def tokenise(folder: Path, settings: TextSettings, train: Sentences, text: Lines, tokenizer: Path) -> None:
    """``text.safetensors``: PAN-X train and a share of the plain text as token ids, end to end, with their offsets."""
    encode, rng = word_encoder(open_tokenizer(tokenizer)), random.Random(settings.seed)
    sequences: list[list[int]] = []
    for language in train.languages:
        texts = [sentence.text for sentence in train.of(language)]
        texts += [line[: settings.longest_line] for line in text.of(language) if rng.random() < settings.share]
        sequences += chain.from_iterable(_cut(encode(each), settings.longest) for each in texts)
    sequences = [ids for ids in sequences if len(ids) > 2]
    ids = np.fromiter(chain.from_iterable(sequences), dtype=np.int32)
    save_file({"ids": ids, "offsets": np.cumsum([0, *map(len, sequences)])}, str(folder / "text.safetensors"))
    print(f"{len(sequences):,} sequences, {len(ids):,} tokens", flush=True)


def _cut(words: Iterator[list[int]], longest: int) -> Iterator[list[int]]:
    """The tokens of a text in pieces of at most ``longest``, between words."""
    ids: list[int] = []
    for word in words:
        if len(ids) + len(word) > longest:
            yield ids
            ids = []
        ids += word[:longest]
    yield ids


def create_backbone(settings: BackboneSettings, vectors: Path, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama whose embeddings begin as word2vec vectors, centred and half way to equal lengths."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=settings.width, intermediate_size=settings.inner,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads, num_key_value_heads=settings.heads,
        max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        attn_implementation="eager",  # the fused attention is half as fast on a CPU
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    found = torch.from_numpy(load_file(vectors / "vectors.safetensors")["vectors"])
    known = found.abs().sum(dim=1) > 0
    found = found - found[known].mean(dim=0)
    found = found / found.norm(dim=1, keepdim=True).clamp(min=1e-6).sqrt()  # word2vec makes frequent words long
    found = found * (settings.embedding_scale / found[known].pow(2).mean().sqrt())
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight.normal_(0, settings.embedding_scale / 4)
        weight[known] = found[known]
    return model


class MaskedWords(nn.Module):
    """A backbone and its loss on a batch of ``MaskedBatches``.

    Args:
        drawn: float64 [tokens], how likely each token is drawn as a candidate.
    """

    log_drawn: Tensor

    def __init__(self, model: LlamaForCausalLM, drawn: Floats, candidates: int) -> None:
        super().__init__()
        self.model = model
        log_drawn = np.log(drawn * candidates + 1e-9).clip(-6, 0)
        self.register_buffer("log_drawn", torch.from_numpy(log_drawn).float(), persistent=False)

    def forward(
        self, ids: Tensor, segments: Tensor, places: Tensor, reads: Tensor, labels: Tensor, candidates: Tensor
    ) -> dict[str, Tensor]:
        """The mean loss of the hidden tokens."""
        mask = attention_mask(segments, full=True, packed=True, dtype=self.model.dtype)
        tokens, number = torch.unique(torch.cat([labels, candidates]), return_inverse=True)
        logits = score_tokens(self.model, ids, mask, reads, tokens, places) - self.log_drawn[tokens]
        return {"loss": F.cross_entropy(logits, number[: len(labels)])}


def drawn_as_candidates(ids: npt.NDArray[np.int32], vocabulary: int) -> Floats:
    """How likely each token is drawn: by its frequency to the power of 0.75, as in word2vec, special tokens never."""
    frequency: Floats = np.bincount(ids, minlength=vocabulary).astype(np.float64) ** 0.75
    frequency[: len(SPECIAL_TOKENS)] = 0
    frequency /= frequency.sum()
    return frequency


class MaskedBatches:
    """The batches of a run, by number: packed rows in random order, which depends on the seed only.

    A batch has ``ids``, ``segments`` and ``places``, int64 [rows, length], see ``packing.Layout``; ``reads`` and
    ``labels``, int64 [n], where tokens are hidden in the flattened rows and which; ``candidates`` are further tokens.

    Args:
        text: what ``tokenise`` left.
        drawn: how likely each token is drawn as a candidate.
    """

    def __init__(self, text: Mapping[str, Ints], drawn: Floats, settings: MaskedWordsSettings) -> None:
        self._ids, self._offsets, self._settings = text["ids"], text["offsets"], settings
        self._lengths, self._chances = np.diff(self._offsets), np.cumsum(drawn)
        self._plan = RunPlan(self._epoch, batches=settings.steps * settings.gradient_accumulation)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        _, rows = self._plan[number]
        settings = self._settings
        layout = Layout([self._lengths[row].tolist() for row in rows], settings.row_length)
        sequences = (self._ids[self._offsets[i] : self._offsets[i + 1]] for row in rows for i in row)
        ids = layout.fill(sequences, padding=0)
        rng = np.random.default_rng([settings.seed, 1, number])
        reads = np.flatnonzero((rng.random(ids.size) < settings.hidden) & (layout.segments.ravel() > 0))
        labels = ids.ravel()[reads]
        ids.ravel()[reads[rng.random(len(reads)) < settings.masked]] = SPECIAL_TOKENS.index(MASK)
        candidates = np.searchsorted(self._chances, rng.random(settings.candidates)).clip(max=len(self._chances) - 1)
        arrays = {"ids": ids, "segments": layout.segments, "places": layout.places}
        arrays |= {"reads": reads, "labels": labels, "candidates": candidates}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _epoch(self, epoch: int) -> list[list[list[int]]]:
        """The rows of each batch; an incomplete one is left out, so that all have one shape."""
        rng = np.random.default_rng([self._settings.seed, 0, epoch])
        rows = plan_rows(self._lengths, rng.permutation(len(self._lengths)).tolist(), self._settings.row_length)
        size = self._settings.batch_size
        return [rows[first : first + size] for first in range(0, len(rows) - size + 1, size)]
