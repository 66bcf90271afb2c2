"""The local engine against plain calls of the model, and the independence of each request from its batch."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from retrieveall.data import segment
from retrieveall.engines import ScoreRequest
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.engines.local.forward import attention_mask, score_tokens
from retrieveall.errors import ConfigError, InputError, ModelFolderError
from retrieveall.model_folder import ModelFolder
from retrieveall.prompts import Piece, Prompt
from retrieveall.storage import Manifest
from retrieveall.tokens import encode_input
from tiny import requests_of

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

ROUTES: list[dict[str, float]] = [{"de": 1.0}, {"en": 1.0}, {"zh": 1.0}, {"de": 0.6, "zh": 0.4}, {}]


@pytest.fixture(scope="module", params=["full", "repeat"])
def model(request: pytest.FixtureRequest) -> RetrieveAll:
    found: RetrieveAll = request.getfixturevalue({"full": "loaded", "repeat": "loaded_repeat"}[request.param])
    return found


class TestIndependenceOfTheBatch:
    """F8: what a request gets depends on nothing beside it."""

    def test_order_and_splits_do_not_matter(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        requests = requests_of(model, mixed_texts, ROUTES)
        together = model.engine.score(requests)
        shuffle = random.Random(3)
        for _ in range(3):
            order = shuffle.sample(range(len(requests)), len(requests))
            size = shuffle.choice([1, 2, 5])
            for first in range(0, len(order), size):
                chunk = order[first : first + size]
                for i, rows in zip(chunk, model.engine.score([requests[i] for i in chunk]), strict=True):
                    assert rows.shape == (len(requests[i].positions), 13)
                    np.testing.assert_allclose(rows, together[i], atol=2e-4)

    def test_a_small_token_budget_changes_nothing(
        self, model: RetrieveAll, mixed_texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = requests_of(model, mixed_texts, ROUTES)
        together = model.engine.score(requests)
        monkeypatch.setattr("retrieveall.engines.local.engine._TOKENS_PER_BATCH", {"cpu": 100})
        for rows, expected in zip(model.engine.score(requests), together, strict=True):
            np.testing.assert_allclose(rows, expected, atol=2e-4)

    def test_candidates_are_those_of_the_request(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        requests = requests_of(model, mixed_texts, ROUTES)
        together = model.engine.score(requests)
        mixed = [
            replace(each, candidates=each.candidates[:3][::-1]) if number % 2 else each
            for number, each in enumerate(requests)
        ]
        for number, rows in enumerate(model.engine.score(mixed)):
            expected = together[number][:, 2::-1] if number % 2 else together[number]
            np.testing.assert_allclose(rows, expected, atol=2e-4)

    def test_adapters_matter(self, model: RetrieveAll) -> None:
        [request] = requests_of(model, ["Karl May in London"])
        seen = [model.engine.score([replace(request, adapters=route)])[0] for route in ROUTES]
        for i, first in enumerate(seen):
            for second in seen[i + 1 :]:
                assert np.abs(first - second).max() > 0.05

    def test_no_requests_and_no_positions(self, model: RetrieveAll) -> None:
        assert model.engine.score([]) == []
        [some] = requests_of(model, ["Ulm"])
        empty, full = model.engine.score([replace(some, positions=()), some])
        assert empty.shape == (0, 13)
        assert full.shape == (1, 13)


class TestMasks:
    def test_by_hand(self) -> None:
        segments = torch.tensor([[1, 1, 1], [1, 0, 0]])
        for dtype in (torch.float32, torch.bfloat16):
            full = attention_mask(segments, full=True, dtype=dtype)
            assert full.dtype == dtype
            assert set(full.unique().tolist()) == {0.0, torch.finfo(dtype).min}
            # Padding sees padding: a row that sees nothing would compute NaN.
            assert (full[:, 0] == 0).int().tolist() == [[[1, 1, 1]] * 3, [[1, 0, 0], [0, 1, 1], [0, 1, 1]]]
        assert attention_mask(segments, full=False).tolist() == [[1, 1, 1], [1, 0, 0]]

    def test_packed_rows(self) -> None:
        segments = torch.tensor([[1, 1, 2, 0]])
        full = attention_mask(segments, full=True, packed=True)
        assert (full[0, 0] == 0).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        causal = attention_mask(segments, full=False, packed=True)
        assert (causal[0, 0] == 0).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

    @pytest.mark.parametrize("full", [True, False])
    @pytest.mark.parametrize("architecture", ["llama", "qwen2"])
    def test_a_packed_row_gives_what_its_sequences_give_alone(
        self, make_backbone: Callable[..., Any], architecture: str, full: bool
    ) -> None:
        backbone = make_backbone(architecture)
        lengths, candidates = (5, 3, 7), torch.tensor([4, 9, 2])
        parts = [torch.randint(30, 360, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
        segments = torch.tensor([[number + 1 for number, n in enumerate(lengths) for _ in range(n)]])
        places = torch.tensor([[i for n in lengths for i in range(n)]])
        mask = attention_mask(segments, full=full, packed=True)
        with torch.inference_mode():
            together = score_tokens(
                backbone, torch.cat(parts)[None], mask, torch.arange(sum(lengths)), candidates, places
            )
            for ids, rows in zip(parts, together.split(lengths), strict=True):
                alone = attention_mask(torch.ones(1, len(ids), dtype=torch.long), full=full)
                expected = score_tokens(backbone, ids[None], alone, torch.arange(len(ids)), candidates)
                torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)

    def test_a_later_word_is_seen_by_an_earlier_read(self, model: RetrieveAll) -> None:
        first, second = model.engine.score(
            [
                replace(each, adapters={})
                for text in ("Karl May in London", "Karl May in Ulm")
                for each in [self._request(model, text)]
            ]
        )
        assert np.abs(first[0] - second[0]).max() > 1e-3

    @staticmethod
    def _request(model: RetrieveAll, text: str) -> ScoreRequest:
        """A request with the prompt of no text, so that prompts of several texts do not differ."""
        [window] = model.stages.window([text])
        [prompt] = model.stages.prompt([window], model.stages.retrieve([replace(window, text="")]))
        encoded = encode_input(model.engine.codec, prompt, window.words, repeat=not model.config.decoder.full_attention)
        return ScoreRequest(encoded.ids, encoded.tag_positions, model.decoder.candidates, {})

    def test_padding_is_not_seen(self, loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
        requests = requests_of(loaded, ["Ulm", "Anna Meier " * 10], ROUTES)
        expected = loaded.engine.score(requests)
        monkeypatch.setattr(loaded.engine.codec, "pad", 77)
        for rows, before in zip(loaded.engine.score(requests), expected, strict=True):
            np.testing.assert_array_equal(rows, before)


def plain_logits(codec: Any, backbone: Any, prompt: Prompt, text: str, candidates: Any) -> Any:
    """The independent reference: the ids put together by hand, one row, the model's own logits, no padding."""
    words = codec.words(segment(text))
    copy = [i for word in words for i in word]
    ids = [i for piece in prompt.before for i in codec.piece(piece)] + copy
    ids += [i for piece in prompt.repeat for i in codec.piece(piece)] + copy
    ends = np.cumsum([len(word) for word in words]) - 1 + len(ids) - len(copy)
    with torch.no_grad():
        logits = backbone(torch.tensor([ids])).logits[0].float()
    return logits[ends][:, list(candidates)].numpy()


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
    engine = LocalEngine.open(ModelFolder.open(folder).config, folder, device="cpu")
    prompt = Prompt((Piece("Text: ", literal=True),), (Piece("\nAgain: ", literal=True),))
    candidates, requests = (7, 9, 300, 11), []
    for number, text in enumerate(mixed_texts[:8]):
        encoded = encode_input(engine.codec, prompt, segment(text), repeat=True)
        requests.append(ScoreRequest(encoded.ids, encoded.tag_positions, candidates, {} if number % 2 else {"zh": 1.0}))
    found = engine.score(requests)
    dtypes = {"dtype": getattr(torch, dtype)}
    bare = AutoModelForCausalLM.from_pretrained(folder / "backbone", **dtypes)
    adapted = AutoModelForCausalLM.from_pretrained(folder / "backbone", **dtypes)
    adapted = peft.PeftModel.from_pretrained(adapted, folder / "adapters" / "zh", autocast_adapter_dtype=False)
    for text, request, rows in zip(mixed_texts, requests, found, strict=False):
        expected = plain_logits(engine.codec, adapted if request.adapters else bare, prompt, text, candidates)
        np.testing.assert_allclose(rows, expected, atol=tolerance)
        spread = np.abs(expected).mean()
        assert np.abs(rows - expected).mean() < tolerance / 3 < spread / 3  # no vacuous tolerance


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(tiny_model: Path, device: str) -> None:
    config = ModelFolder.open(tiny_model, verify=False).config
    with pytest.raises(InputError, match="expected a device"):
        LocalEngine.open(config, tiny_model, device=device)


def test_prompts_longer_than_the_backbone_reads(tiny_model: Path) -> None:
    config = ModelFolder.open(tiny_model, verify=False).config
    prompt = config.prompt.model_copy(update={"max_tokens": 2049})
    with pytest.raises(ConfigError, match="max_tokens is 2049, the backbone reads at most 2048"):
        LocalEngine.open(config.model_copy(update={"prompt": prompt}), tiny_model, device="cpu")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_an_error(loaded: RetrieveAll, number: float) -> None:
    def forward(ids: Any, mask: Any, reads: Any, candidates: Any) -> torch.Tensor:
        return torch.full((len(reads), len(candidates)), number)

    engine = LocalEngine(
        loaded.engine.model, loaded.engine.bank, loaded.engine.codec, full_attention=True, forward=forward
    )
    with pytest.raises(ModelFolderError, match="NaN"):
        engine.score(requests_of(loaded, ["Ulm"]))


def test_refresh_sees_an_adapter_that_changed(tiny_repeat_model: Path, tmp_path: Path) -> None:
    from retrieveall import RetrieveAll

    folder = Path(shutil.copytree(tiny_repeat_model, tmp_path / "model"))
    model = RetrieveAll.from_pretrained(folder, device="cpu")
    requests = requests_of(model, ["Karl May in London"], [{"de": 1.0}, {"en": 1.0}])
    [before] = model.engine.score(requests)
    [other] = model.engine.score([replace(requests[0], adapters={"en": 1.0})])
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(folder / "adapters" / "en" / name, folder / "adapters" / "de" / name)
    Manifest.of(folder).write()
    np.testing.assert_array_equal(model.engine.score(requests)[0], before)
    model.engine.refresh()
    np.testing.assert_allclose(model.engine.score(requests)[0], other, atol=2e-4)
    assert np.abs(other - before).max() > 0.05
