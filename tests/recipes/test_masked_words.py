"""The objective of masked words against the full softmax, its packed rows against sequences that stand alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recipes.mini.masked_words import MaskedBatches, MaskedWords
from recipes.mini.recipe import Settings
from recipes.mini.tokenizer import SPECIAL_TOKENS
from recipes.settings import read_settings

TOKENS = 360  # of the tiny backbone
MASK = 2


@pytest.fixture(scope="module")
def text() -> dict[str, Any]:
    """300 sequences of 3 to 30 tokens, frequent ones and rare ones."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 31, 300)
    ids = len(SPECIAL_TOKENS) + np.minimum(rng.geometric(0.03, lengths.sum()), TOKENS - len(SPECIAL_TOKENS) - 1)
    return {"ids": ids.astype(np.int32), "offsets": np.cumsum([0, *lengths])}


@pytest.fixture(scope="module")
def settings() -> Any:
    changes = ["masked_words.batch_size=4", "masked_words.row_length=64", "masked_words.candidates=32"]
    path = Path(__file__).parents[2] / "recipes" / "mini" / "recipe.yaml"
    return read_settings(Settings, path, changes=changes).masked_words


def uniform() -> Any:
    return np.full(TOKENS, 1 / TOKENS)


def one_pass(text: dict[str, Any], settings: Any, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
    """The batches of an epoch."""
    batches = MaskedBatches(text, uniform(), settings)
    size = len(batches._plan._plan(0))
    return [batches[epoch * size + number] for number in range(size)]


def test_rows_hold_a_sequence_once_and_whole(text: dict[str, Any], settings: Any) -> None:
    everything = settings.model_copy(update={"masked": 0.0})
    lengths = np.diff(text["offsets"])
    sequences = Counter(tuple(text["ids"][a:b]) for a, b in pairwise(text["offsets"]))
    found: Counter[tuple[int, ...]] = Counter()
    batches = one_pass(text, everything)
    for batch in batches:
        assert batch["ids"].shape == (settings.batch_size, settings.row_length)
        for ids, segments, places in zip(batch["ids"], batch["segments"], batch["places"], strict=True):
            for number in range(1, int(segments.max()) + 1):
                assert places[segments == number].tolist() == list(range(int((segments == number).sum())))
                found[tuple(ids[segments == number].tolist())] += 1
    assert not found - sequences
    shown = sum(int((batch["segments"] > 0).sum()) for batch in batches)
    assert shown > lengths.sum() - settings.batch_size * settings.row_length  # of the last batch, an incomplete one
    assert shown / sum(batch["ids"].numel() for batch in batches) > 0.95


def test_a_batch_depends_on_seed_and_number_only(text: dict[str, Any], settings: Any) -> None:
    first, again = (MaskedBatches(text, uniform(), settings) for _ in range(2))
    other = MaskedBatches(text, uniform(), settings.model_copy(update={"seed": 1}))
    assert len(first) == settings.steps
    far = len(first) - 1
    assert all(torch.equal(value, again[far][name]) for name, value in first[far].items())  # asked for out of order
    assert not torch.equal(first[0]["ids"], first[far]["ids"])
    assert not torch.equal(first[0]["ids"], other[0]["ids"])
    with pytest.raises(IndexError):
        first[far + 1]


def test_shares_of_hidden_tokens(text: dict[str, Any], settings: Any) -> None:
    batches = one_pass(text, settings)
    hidden = sum(len(batch["labels"]) for batch in batches)
    shown = sum(int((batch["segments"] > 0).sum()) for batch in batches)
    masked = sum(int((batch["ids"] == MASK).sum()) for batch in batches)
    assert hidden / shown == pytest.approx(settings.hidden, rel=0.1)
    assert masked / hidden == pytest.approx(settings.masked, rel=0.1)


def test_the_loss_with_all_tokens_as_candidates_is_the_full_one_of_sequences_alone(
    text: dict[str, Any], settings: Any, make_backbone: Callable[..., Any]
) -> None:
    model = make_backbone().eval()
    model.set_attn_implementation("eager")
    module = MaskedWords(model, uniform(), TOKENS)
    batch = one_pass(text, settings)[0] | {"candidates": torch.arange(TOKENS)}
    flat, segments = batch["ids"].flatten(), (batch["segments"] + 100 * torch.arange(4)[:, None]).flatten()
    losses = []
    for place, label in zip(batch["reads"].tolist(), batch["labels"], strict=True):
        own = (segments == segments[place]).nonzero()[:, 0]
        mask = torch.zeros(1, 1, len(own), len(own))  # nothing is hidden from anything
        with torch.no_grad():
            states = model.model(input_ids=flat[own][None], attention_mask=mask).last_hidden_state[0]
        losses.append(F.cross_entropy(states[place - int(own[0])] @ model.get_output_embeddings().weight.T, label))
    with torch.no_grad():
        assert module(**batch)["loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_few_candidates_estimate_the_full_loss(
    text: dict[str, Any], settings: Any, make_backbone: Callable[..., Any]
) -> None:
    model = make_backbone().eval()
    model.set_attn_implementation("eager")
    drawn = np.bincount(text["ids"], minlength=TOKENS) ** 0.75
    drawn /= drawn.sum()
    batch = MaskedBatches(text, drawn, settings)[0]
    rng = np.random.default_rng(0)

    def loss(module: MaskedWords, candidates: Any) -> float:
        with torch.no_grad():
            return float(module(**batch | {"candidates": torch.from_numpy(candidates)})["loss"])

    full = loss(MaskedWords(model, uniform(), TOKENS), np.flatnonzero(drawn))
    samples = [rng.choice(TOKENS, 300, p=drawn) for _ in range(20)]
    estimate = MaskedWords(model, drawn, 300)
    estimated = np.mean([loss(estimate, sample) for sample in samples])
    estimate.log_drawn.zero_()
    uncorrected = np.mean([loss(estimate, sample) for sample in samples])
    assert estimated == pytest.approx(full, rel=0.05)
    assert abs(estimated - full) < abs(uncorrected - full) / 2
