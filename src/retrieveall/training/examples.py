"""Training examples: the requests of inference around gold sentences, as token ids, and what should be predicted.

Every sentence goes through the stages of inference, as if neither it nor its duplicates had ever been in the pool;
without that a model learns to copy and fails on new text. A sentence is encoded once for each level of knowledge, so
that an epoch only has to draw the levels. Knows no torch.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.config import KnowledgeShares, ModelConfig, dump_yaml
from retrieveall.data import normalise_sentence
from retrieveall.decoders import Decoder, Target, gold_of
from retrieveall.prompts import load_template
from retrieveall.stages import Stages
from retrieveall.storage import write_atomic
from retrieveall.tokens import TokenCodec
from retrieveall.training.data import digest
from retrieveall.types import Knowledge, Sentence

__all__ = ["Examples", "cached_examples", "encode_examples", "examples_key", "level_shares"]

_BATCH = 256
_FORMAT = 1  # of the cache, and of how examples are made

Ints = npt.NDArray[Any]


@dataclass(frozen=True)
class Examples:
    """Examples end to end: ``ids[ids_at[i]:ids_at[i + 1]]`` are the tokens of example i, and so on.

    At each of its ``positions`` the right candidate has the number in ``labels``. ``words`` [n, 2] are the first and
    last tokens of the words that may be hidden.
    """

    ids: Ints
    ids_at: Ints
    positions: Ints
    labels: Ints
    labels_at: Ints
    words: Ints
    words_at: Ints

    def __len__(self) -> int:
        return len(self.ids_at) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each example."""
        return np.diff(self.ids_at)


class _Writer:
    """Puts targets end to end; arrays of machine integers, since lists would take eight times the memory."""

    def __init__(self) -> None:
        self._ids, self._positions, self._labels, self._words = (array("i") for _ in range(4))
        self._ends: list[tuple[int, int, int]] = [(0, 0, 0)]

    def add(self, target: Target) -> None:
        self._ids.extend(target.ids)
        self._positions.extend(target.positions)
        self._labels.extend(target.labels)
        for first, last in target.words:
            self._words.extend((first, last))
        self._ends.append((len(self._ids), len(self._labels), len(self._words) // 2))

    def done(self) -> Examples:
        flat = (self._ids, self._positions, self._labels, self._words)
        ids, positions, labels, words = (np.array(each, dtype=np.int32) for each in flat)
        ids_at, labels_at, words_at = (np.array(each, dtype=np.int64) for each in zip(*self._ends, strict=True))
        return Examples(ids, ids_at, positions, labels, labels_at, words.reshape(-1, 2), words_at)


_LEVELS: Mapping[str, Callable[[Knowledge], Knowledge]] = {
    "none": lambda found: Knowledge(),
    "entity": lambda found: Knowledge(entities=found.entities),
    "both": lambda found: found,
}


def level_shares(config: ModelConfig, shares: KnowledgeShares) -> dict[str, float]:
    """Share of the sentences by level, sum 1; levels that look the same under ``config`` are one."""
    weights = {"none": shares.none, "entity": shares.entity, "both": shares.both}
    if not config.prompt.context_examples:
        weights["entity"] += weights.pop("both")
    if not config.prompt.entity_examples:
        weights["none"] += weights.pop("entity")
    total = sum(weights.values())
    return {level: weight / total for level, weight in weights.items() if weight > 0}


def encode_examples(
    stages: Stages,
    decoder: Decoder,
    sentences: Sequence[Sentence],
    levels: Sequence[str],
    done: Callable[[int], None] | None = None,
) -> dict[str, Examples]:
    """The examples of ``sentences`` with each of the ``levels`` of knowledge: one for each of their windows.

    Args:
        sentences: with ``language`` set; each is retrieved for as if it had never been in the pool.
        done: called with the number of sentences that are ready.

    Raises:
        InputError: a label that the model does not have.
    """
    writers = {level: _Writer() for level in levels}
    shown = any(level != "none" for level in levels)
    for first in range(0, len(sentences), _BATCH):
        batch = sentences[first : first + _BATCH]
        windows = stages.window([sentence.text for sentence in batch])
        if shown:
            found = stages.retrieve(windows, exclude=[batch[window.document] for window in windows], votes=False)
        else:
            found = [Knowledge()] * len(windows)
        entities = [normalise_sentence(sentence).entities for sentence in batch]
        for level, writer in writers.items():
            prompts = stages.prompt(windows, [_LEVELS[level](each) for each in found])
            for window, prompt in zip(windows, prompts, strict=True):
                writer.add(decoder.target(window, prompt, gold_of(window, entities[window.document])))
        if done is not None:
            done(min(first + _BATCH, len(sentences)))
    return {level: writer.done() for level, writer in writers.items()}


def cached_examples(
    path: Path, key: str, levels: Sequence[str], encode: Callable[[], dict[str, Examples]]
) -> dict[str, Examples]:
    """The examples in ``path`` if they were written for the same ``key``, else those of ``encode``, kept there.

    Args:
        key: whatever the examples depend on, see ``examples_key``.
    """
    kept = _read(path, key, levels)
    if kept is not None:
        return kept
    from safetensors.numpy import save

    found = encode()
    arrays = {
        f"{level}.{each.name}": getattr(examples, each.name)
        for level, examples in found.items()
        for each in fields(Examples)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(arrays, metadata={"key": key}))
    return found


def _read(path: Path, key: str, levels: Sequence[str]) -> dict[str, Examples] | None:
    """None where there is no file, or one for something else; it is a cache, so nothing in it is worth an error."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return {
                level: Examples(*(file.get_tensor(f"{level}.{each.name}") for each in fields(Examples)))
                for level in levels
            }
    except (OSError, SafetensorError):
        return None


def examples_key(config: ModelConfig, codec: TokenCodec, knowledge: str, sentences: Sequence[Sentence]) -> str:
    """All that ``encode_examples`` depends on, as a digest: change any of it, and examples are made anew.

    Args:
        knowledge: the fingerprint of the knowledge base.
    """
    parts = [
        dump_yaml(config, exclude={"name", "backbone", "routing", "threshold", "sentence_threshold"}),
        load_template(config.prompt.template).model_dump_json(),
        codec.tokenizer.backend.to_str(),
        json.dumps([codec.tokenizer.bos, codec.tokenizer.eos, codec.tokenizer.chat_template]),
        knowledge,
        digest(sentences),
        f"{_FORMAT} {unicodedata.unidata_version}",
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
