"""Packed rows: little padding, the same batches for a seed, and the loss and gradients of the same windows unpacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieveall.config import TrainingConfig
from retrieveall.decoders import gold_of
from retrieveall.decoders.tagging import TaggingDecoder
from retrieveall.model_folder import ModelFolder
from retrieveall.training.batches import ExampleBatches, LanguageExamples
from retrieveall.training.examples import Examples
from retrieveall.training.packing import Layout, RunPlan, plan_rows
from retrieveall.training.parallel import Processes
from retrieveall.training.run import LanguageData, Training
from retrieveall.types import Route, Sentence


def lengths_of(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).gamma(4, 8, count).astype(int) + 8


def test_little_is_padding_and_every_sequence_is_there_once() -> None:
    lengths = lengths_of(2000)
    rows = plan_rows(lengths, np.random.default_rng(1).permutation(2000).tolist(), 128)
    assert sorted(i for row in rows for i in row) == list(range(2000))
    used = [int(lengths[row].sum()) for row in rows]
    assert max(used) <= 128
    assert sum(used) > 0.95 * 128 * len(rows)


def test_a_sequence_longer_than_a_row_has_one_of_its_own() -> None:
    rows = plan_rows(np.array([10, 200, 10]), [0, 1, 2], 64)
    assert sorted(rows) == [[0, 2], [1]]
    layout = Layout([[10, 10], [200]], 64)
    assert layout.segments.shape == (2, 200)


def test_a_layout_numbers_sequences_and_counts_their_tokens() -> None:
    layout = Layout([[2, 3], [4], []])
    assert layout.segments.tolist() == [[1, 1, 2, 2, 2, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [0] * 8]
    assert layout.places.tolist() == [[0, 1, 0, 1, 2, 0, 0, 0], [0, 1, 2, 3, 0, 0, 0, 0], [0] * 8]
    ids = layout.fill(iter([np.array([5, 6]), np.array([7, 8, 9]), np.array([1, 2, 3, 4])]), 0)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0], [0] * 8]
    assert layout.offsets == [0, 2, 8]


@pytest.mark.parametrize(
    ("how_long", "ends"),
    [({"epochs": 2.0}, [3, 5]), ({"epochs": 2.5}, [3, 5, 7]), ({"epochs": 0.1}, [1]), ({"batches": 6}, [3, 5, 6])],
)
def test_a_run_has_the_batches_of_its_epochs(how_long: dict[str, Any], ends: list[int]) -> None:
    plan = RunPlan(lambda epoch: [f"{epoch}.{i}" for i in range(3 - epoch % 2)], **how_long)
    assert plan.ends == ends
    every = [f"{epoch}.{i}" for epoch in range(4) for i in range(3 - epoch % 2)]
    assert [plan[k][1] for k in range(len(plan))] == every[: len(plan)]
    assert all(plan[k][0] == int(plan[k][1][0]) for k in range(len(plan)))


# -- batches -----------------------------------------------------------------------------------------------------------


def language_examples(name: str, count: int, first: int = 100) -> LanguageExamples:
    """Examples whose tokens are counted on from ``first``, so that each token says where it is from."""
    made = {}
    for level, more in (("none", 0), ("entity", 9)):
        sizes = lengths_of(count, len(name)) + more
        at = np.concatenate([[0], np.cumsum(sizes)])
        ids = np.arange(at[-1], dtype=np.int32) + first
        made[level] = Examples(
            ids, at, sizes.astype(np.int32) - 1, (sizes % 7).astype(np.int32), np.arange(count + 1),
            np.stack([sizes - 3, sizes - 2], axis=1).astype(np.int32), np.arange(count + 1),
        )  # fmt: skip
    return LanguageExamples(name, made, {"none": 0.3, "entity": 0.7})


def batches_of(*parts: LanguageExamples, processes: Processes | None = None, **settings: Any) -> ExampleBatches:
    options = {"separate": True, "row_length": 128, "pad": 0, "mask_token": 2, "fixed": False}
    options = {name: settings.pop(name, value) for name, value in options.items()}
    config = TrainingConfig.model_validate({"batch_size": 4, "epochs": 2, "word_dropout": 0.3, **settings})
    return ExampleBatches(parts, config, processes or Processes(), **options)


DE, ZH = language_examples("de", 60), language_examples("zh", 45, 50_000)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def rows_of(batches: ExampleBatches) -> list[tuple[int, ...]]:
    """The rows of a run without their padding, in order."""
    found = []
    for k in range(len(batches)):
        batch = batches[k]
        for ids, segments in zip(batch["ids"], batch["segments"], strict=True):
            if segments.any():
                found.append(tuple(ids[segments > 0].tolist()))
    return found


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    one, two = batches_of(DE, ZH), batches_of(DE, ZH)
    assert len(one) == len(two) > 4
    assert all(same(one[k], two[k]) for k in (5, 0, 3, len(one) - 1, 3))
    other = batches_of(DE, ZH, seed=14)
    assert not same(one[0], other[0])
    first = one.plan.ends[0]
    assert rows_of(one)[:3] != [tuple(one[first]["ids"][0].tolist())], "every epoch is another permutation"


def test_reads_stay_on_their_tokens() -> None:
    batches = batches_of(DE, word_dropout=0.0)
    for k in range(len(batches)):
        batch = batches[k]
        flat, segments = batch["ids"].flatten(), batch["segments"].flatten()
        lasts = (segments != segments.roll(-1)) & (segments > 0)
        assert sorted(batch["reads"].tolist()) == lasts.nonzero()[:, 0].tolist(), "the last token of each example"
        firsts = (segments != segments.roll(1)) & (segments > 0)
        assert (batch["places"].flatten()[firsts] == 0).all()
        assert len(batch["labels"]) == len(batch["reads"])
        assert flat[batch["reads"]].min() >= 100


def test_a_row_is_of_one_language_and_so_are_most_batches() -> None:
    batches = batches_of(DE, ZH)
    mixed = 0
    for k in range(len(batches)):
        batch = batches[k]
        for row, language in zip(batch["ids"], batch["languages"], strict=True):
            own = row[row > 2]
            assert bool((own >= 50_000).all()) is bool(language), language
        mixed += len(batch["languages"].unique()) > 1
    assert mixed <= 2


def test_a_language_has_the_same_rows_whatever_else_is_trained() -> None:
    alone, together = rows_of(batches_of(DE)), rows_of(batches_of(DE, ZH))
    assert sorted(alone) == sorted(row for row in together if max(row) < 50_000)


def test_words_are_hidden_anew_every_epoch() -> None:
    batches = batches_of(DE, word_dropout=0.5)
    hidden: list[set[int]] = [set(), set()]
    for k in range(len(batches)):
        batch, epoch = batches[k], batches.plan[k][0]
        flat = batch["ids"].flatten()
        # The token before the one that is read is the last of the word that may be hidden.
        hidden[epoch] |= {int(flat[read]) for read in batch["reads"] if flat[read - 1] == 2}
    assert [len(some) for some in hidden] == pytest.approx([30, 30], abs=12)
    assert hidden[0] != hidden[1]


@pytest.mark.parametrize("row_length", [128, None])
@pytest.mark.parametrize("separate", [True, False])
def test_processes_see_together_what_one_sees(separate: bool, row_length: int | None) -> None:
    options: dict[str, Any] = {"separate": separate, "row_length": row_length}
    whole = batches_of(DE, ZH, batch_size=6, **options)
    shares = [batches_of(DE, ZH, batch_size=3, processes=Processes(rank, 2), **options) for rank in (0, 1)]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for k in range(len(whole)):
        parts = [share[k] for share in shares]
        rows = [
            tuple(ids[segments > 0].tolist())
            for part in parts
            for ids, segments in zip(part["ids"], part["segments"], strict=True)
            if segments.any()
        ]
        own = whole[k]
        expected = [tuple(i[s > 0].tolist()) for i, s in zip(own["ids"], own["segments"], strict=True)]
        assert sorted(rows) == sorted(expected)
        assert sum(part["labels"].numel() for part in parts) == own["labels"].numel()


def test_a_fixed_shape_has_rows_that_hold_nothing() -> None:
    batches = batches_of(DE, ZH, fixed=True)
    assert {tuple(batches[k]["ids"].shape) for k in range(len(batches))} == {(4, 128)}
    assert sorted(rows_of(batches)) == sorted(rows_of(batches_of(DE, ZH)))


def test_unpacked_rows_are_of_similar_length() -> None:
    batches = batches_of(DE, ZH, row_length=None, epochs=1)
    padding = total = 0
    for k in range(len(batches)):
        segments = batches[k]["segments"]
        assert segments.max() == 1
        padding += int((segments == 0).sum())
        total += segments.numel()
    assert padding < 0.2 * total


# -- the loss ----------------------------------------------------------------------------------------------------------


class Learning:
    """A training of two languages, all sentences in one batch, with the loss of that batch and its gradients."""

    def __init__(self, folder: Path, corpus: dict[str, list[Sentence]], run: Path, **settings: Any) -> None:
        raw = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0}, "batch_size": 64, "row_length": 500, "epochs": 1}
        config = TrainingConfig.model_validate(raw | settings)
        model = ModelFolder.open(folder)
        data = {language: LanguageData(corpus[language][:9]) for language in ("de", "zh")}
        self.training = training = Training(model, model.knowledge(), data, config, run, "cpu")
        training.bank.trainable(["de", "zh"], config.lora, 5)
        torch.manual_seed(3)
        for parameter in training.bank.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        batches = training.batches(training.examples(None), separate=True)
        (self.batch,) = (batches[k] for k in range(len(batches)))
        loss = training.module(["de", "zh"]).train()(**self.batch)["loss"]
        loss.backward()
        self.loss = loss.item()
        self.gradients = {name: p.grad for name, p in training.bank.named_parameters() if p.grad is not None}


KINDS = [
    {"attention": "full"},
    {"architecture": "qwen2", "attention": "repeat"},
    {"architecture": "qwen2", "attention": "full", "decoder": "generation"},
]


@pytest.mark.parametrize("kind", KINDS, ids=["full", "repeat", "generation"])
def test_packed_rows_have_the_loss_and_gradients_of_unpacked_ones(
    build_model: Callable[..., Path], corpus: dict[str, list[Sentence]], tmp_path: Path, kind: dict[str, str]
) -> None:
    folder = build_model(tmp_path / "model", **kind)
    packed, single = (Learning(folder, corpus, tmp_path / f"{choice}", packing=choice) for choice in (True, False))
    assert packed.batch["segments"].max() > 1, "the rows of the test must be packed"
    assert single.batch["segments"].max() == 1
    assert packed.loss == pytest.approx(single.loss, rel=1e-5)
    assert packed.gradients.keys() == single.gradients.keys()
    assert max(float(gradient.abs().max()) for gradient in single.gradients.values()) > 1e-3
    for name, gradient in single.gradients.items():
        torch.testing.assert_close(packed.gradients[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:2], ids=["full", "repeat"])
def test_training_computes_what_the_engine_computes(
    build_model: Callable[..., Path], corpus: dict[str, list[Sentence]], tmp_path: Path, kind: dict[str, str]
) -> None:
    """The loss over packed rows is that of the scores which the decoder reads, under the same prompts."""
    shares = {"none": 0, "entity": 0, "both": 1}
    learning = Learning(build_model(tmp_path / "model", **kind), corpus, tmp_path / "run", knowledge=shares)
    training = learning.training
    training.bank.eval()
    sentences = [each for own in training.sentences.values() for each in own]
    windows = training.stages.window([each.text for each in sentences])
    prompts = training.stages.prompt(windows, training.stages.retrieve(windows, exclude=sentences, votes=False))
    assert any(prompt.entities for prompt in prompts)
    routes = [Route({each.language or "": 1.0}) for each in sentences]
    assert isinstance(training.decoder, TaggingDecoder)
    scores = np.concatenate(training.decoder.scores(training.engine(), windows, prompts, routes))
    gold = [
        label
        for window, prompt, each in zip(windows, prompts, sentences, strict=True)
        for label in training.decoder.target(window, prompt, gold_of(window, each.entities)).labels
    ]
    assert len(gold) == learning.batch["labels"].numel()
    assert learning.loss == pytest.approx(-scores[np.arange(len(gold)), gold].mean(), rel=1e-5)
