"""The engine against plain calls of the model, and the independence of each request from its batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from retrieveall.data import segment
from retrieveall.engines import TagRequest
from retrieveall.engines.transformers import TransformersEngine, attention_mask
from retrieveall.errors import ConfigError, InputError, ModelFolderError
from retrieveall.model_folder import ModelFolder
from retrieveall.prompts import Piece, Prompt

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

ROUTES: list[dict[str, float]] = [{"de": 1.0}, {"en": 1.0}, {"zh": 1.0}, {"de": 0.6, "zh": 0.4}, {}]


def requests_of(model: RetrieveAll, texts: Sequence[str]) -> list[TagRequest]:
    """A request of each text as the pipeline makes it, the routes in turn."""
    found = model.retrieve(texts)
    return [
        TagRequest(model.build_prompt(text, knowledge), segment(text), ROUTES[number % len(ROUTES)])
        for number, (text, knowledge) in enumerate(zip(texts, found, strict=True))
    ]


@pytest.fixture(scope="module", params=["full", "repeat"])
def model(request: pytest.FixtureRequest) -> RetrieveAll:
    found: RetrieveAll = request.getfixturevalue({"full": "loaded", "repeat": "loaded_repeat"}[request.param])
    return found


class TestIndependenceOfTheBatch:
    """F8: what a request gets depends on nothing beside it."""

    def test_order_and_splits_do_not_matter(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        requests = requests_of(model, mixed_texts)
        together = model.engine.logits(requests)
        shuffle = random.Random(3)
        for _ in range(3):
            order = shuffle.sample(range(len(requests)), len(requests))
            size = shuffle.choice([1, 2, 5])
            for first in range(0, len(order), size):
                chunk = order[first : first + size]
                for i, rows in zip(chunk, model.engine.logits([requests[i] for i in chunk]), strict=True):
                    assert rows.shape == (len(requests[i].words), 13)
                    np.testing.assert_allclose(rows, together[i], atol=2e-4)

    def test_a_small_token_budget_changes_nothing(
        self, model: RetrieveAll, mixed_texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = requests_of(model, mixed_texts)
        together = model.engine.tag(requests)
        monkeypatch.setattr("retrieveall.engines.transformers._TOKENS_PER_BATCH", 100)
        for rows, expected in zip(model.engine.tag(requests), together, strict=True):
            np.testing.assert_allclose(rows, expected, atol=2e-4)

    def test_adapters_matter(self, model: RetrieveAll) -> None:
        [request] = requests_of(model, ["Karl May in London"])
        seen = [model.engine.logits([replace(request, adapters=route)])[0] for route in ROUTES]
        for i, first in enumerate(seen):
            for second in seen[i + 1 :]:
                assert np.abs(first - second).max() > 0.05

    def test_no_requests_and_no_words(self, model: RetrieveAll) -> None:
        assert model.engine.tag([]) == []
        [some] = requests_of(model, ["Ulm"])
        empty, full = model.engine.tag([replace(some, words=()), some])
        assert empty.shape == (0, 13)
        assert full.shape == (1, 13)

    def test_tag_gives_log_probabilities_at_the_temperature(self, model: RetrieveAll) -> None:
        requests = requests_of(model, ["Karl May in London"])
        [logits], [scores] = model.engine.logits(requests), model.engine.tag(requests)
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(scores, torch.log_softmax(torch.from_numpy(logits), -1).numpy(), atol=1e-5)


class TestMasks:
    def test_by_hand(self) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            full = attention_mask(torch.tensor([3, 1]), 3, repeat=False, dtype=dtype)
            assert full.dtype == dtype
            assert set(full.unique().tolist()) == {0.0, torch.finfo(dtype).min}
            assert (full[:, 0] == 0).int().tolist() == [[[1, 1, 1]] * 3, [[1, 0, 0], [1, 1, 0], [1, 0, 1]]]
        causal = attention_mask(torch.tensor([3, 1]), 3, repeat=True)
        assert causal.tolist() == [[1, 1, 1], [1, 0, 0]]

    @pytest.mark.parametrize("fixture", ["loaded", "loaded_repeat"])
    def test_a_later_word_is_seen_by_an_earlier_read(
        self, request: pytest.FixtureRequest, fixture: str, loaded: RetrieveAll
    ) -> None:
        model: RetrieveAll = request.getfixturevalue(fixture)
        prompt = model.build_prompt("", model.retrieve([""])[0])
        words = segment("Karl May in London"), segment("Karl May in Ulm")
        first, second = model.engine.logits([TagRequest(prompt, each, {}) for each in words])
        assert np.abs(first[0] - second[0]).max() > 1e-3

    def test_padding_is_not_seen(self, loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
        requests = requests_of(loaded, ["Ulm", "Anna Meier " * 10])
        expected = loaded.engine.logits(requests)
        monkeypatch.setattr(loaded.engine.codec, "pad", 77)
        for rows, before in zip(loaded.engine.logits(requests), expected, strict=True):
            np.testing.assert_array_equal(rows, before)


def plain_logits(engine: Any, backbone: Any, request: TagRequest, *, repeat: bool) -> np.ndarray:
    """The independent reference: the ids put together by hand, one row, the model's own logits, no padding."""
    codec = engine.codec
    text = [i for word in codec.words(request.words) for i in word]
    ids = [i for piece in request.prompt.before for i in codec.piece(piece)] + text
    if repeat:
        ids += [i for piece in request.prompt.repeat for i in codec.piece(piece)] + text
    ends = np.cumsum([len(word) for word in codec.words(request.words)]) - 1 + len(ids) - len(text)
    with torch.no_grad():
        logits = backbone(torch.tensor([ids])).logits[0].float()
    return logits[ends][:, engine.tag_ids].numpy()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("bfloat16", 0.35)])
def test_repeat_is_what_the_plain_causal_model_says(
    build_model: Callable[..., Path],
    tmp_path: Path,
    mixed_texts: list[str],
    architecture: str,
    dtype: str,
    tolerance: float,
) -> None:
    """Also with an adapter, which PEFT loads from its folder in its own way."""
    import peft
    from transformers import AutoModelForCausalLM

    folder = build_model(tmp_path / "m", architecture=architecture, attention="repeat", dtype=dtype)
    opened = ModelFolder.open(folder)
    engine = TransformersEngine(opened.config, folder, device="cpu")
    prompt = Prompt((Piece("Text: ", literal=True),), (Piece("\nAgain: ", literal=True),))
    requests = [
        TagRequest(prompt, segment(text), {} if number % 2 else {"zh": 1.0})
        for number, text in enumerate(mixed_texts[:8])
    ]
    found = engine.logits(requests)
    dtypes = {"dtype": getattr(torch, dtype)}
    bare = AutoModelForCausalLM.from_pretrained(folder / "backbone", **dtypes)
    adapted = AutoModelForCausalLM.from_pretrained(folder / "backbone", **dtypes)
    adapted = peft.PeftModel.from_pretrained(adapted, folder / "adapters" / "zh", autocast_adapter_dtype=False)
    for request, rows in zip(requests, found, strict=True):
        expected = plain_logits(engine, adapted if request.adapters else bare, request, repeat=True)
        np.testing.assert_allclose(rows, expected, atol=tolerance)
        spread = np.abs(expected).mean()
        assert np.abs(rows - expected).mean() < tolerance / 3 < spread / 3  # no vacuous tolerance


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(tiny_model: Path, device: str) -> None:
    config = ModelFolder.open(tiny_model, verify=False).config
    with pytest.raises(InputError, match="expected a device"):
        TransformersEngine(config, tiny_model, device=device)


def test_prompts_longer_than_the_backbone_reads(tiny_model: Path) -> None:
    config = ModelFolder.open(tiny_model, verify=False).config
    prompt = config.prompt.model_copy(update={"max_tokens": 2049})
    with pytest.raises(ConfigError, match="max_tokens is 2049, the backbone reads at most 2048"):
        TransformersEngine(config.model_copy(update={"prompt": prompt}), tiny_model, device="cpu")


def test_numbers_that_are_not_finite_are_an_error(loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(loaded, ["Ulm"])
    monkeypatch.setattr(loaded.engine, "logits", lambda rows: [np.full((1, 13), np.nan, dtype=np.float32)])
    with pytest.raises(ModelFolderError, match="NaN"):
        loaded.engine.tag(requests)
