"""The engine's own BERT against that of transformers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bert_folders import config_of, pack_folder, save_bert
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertModel

from retrieveall.adapters import LoraLayer, LoraShape, LoraWeights, backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import LoraSettings
from retrieveall.engines.base import ScoreRequest
from retrieveall.engines.local.compact_encoder import CompactBert, load_compact_encoder
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.training.run import LanguageData, create_model
from retrieveall.types import Sentence


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert")


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> CompactBert:
    model = load_compact_encoder(folder, dtype)
    assert model is not None
    return model


def reference(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    options = {"dtype": dtype, "attn_implementation": "eager", "add_pooling_layer": False}
    return BertModel.from_pretrained(folder, **options).eval()


def rows_of(*lengths: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(0, 360, (length,), generator=draw) for length in lengths]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(1,), (290,), (40, 40, 7, 40, 1, 1)], ids=str)
def test_same_states_as_transformers(bert: Path, dtype: torch.dtype, lengths: tuple[int, ...]) -> None:
    """Rows one after the other, without padding, against each row alone."""
    rows = rows_of(*lengths)
    model, other = loaded(bert, dtype), reference(bert, dtype)
    with torch.inference_mode():
        found = model(torch.cat(rows), lengths)
        expected = torch.cat([other(input_ids=row[None]).last_hidden_state[0] for row in rows])
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype is torch.float32 else 0.1, rtol=0)
    assert model.dtype == dtype
    assert torch.equal(model.get_input_embeddings().weight, other.get_input_embeddings().weight)
    assert model.get_output_embeddings() is None


def test_the_last_layer_can_be_finished_for_some_tokens_only(bert: Path) -> None:
    model, rows = loaded(bert), rows_of(12, 30)
    some = torch.tensor([3, 11, 12, 40])
    with torch.inference_mode():
        x, seen = model.attend(torch.cat(rows), (12, 30))
        found = model.finish(x[some], seen[some])
        torch.testing.assert_close(found, model(torch.cat(rows), (12, 30))[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_module_names_and_fingerprint(bert: Path, dtype: torch.dtype) -> None:
    model, other = loaded(bert, dtype), reference(bert, dtype)
    names = [
        {name for name, module in each.named_modules() if isinstance(module, torch.nn.Linear)}
        for each in (model, other)
    ]
    assert names[0] == names[1]
    assert backbone_fingerprint(model) == backbone_fingerprint(other)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def adapter(model: Any, rank: int) -> LoraWeights:
    draw = torch.Generator().manual_seed(rank)
    shape = LoraShape.from_settings(LoraSettings(rank=rank, alpha=2.0 * rank))
    layers = {
        name: LoraLayer(
            torch.randn(rank, module.in_features, generator=draw) * 0.2,
            torch.randn(module.out_features, rank, generator=draw) * 0.2,
            2.0,
        )
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return LoraWeights(shape, layers)


ADAPTERS: list[dict[str, float]] = [{"de": 1.0}, {"de": 0.3, "en": 0.7}, {}, {"en": 1.0}]


@pytest.mark.parametrize("merge", [False, True])
def test_the_adapter_bank_works_alike(bert: Path, merge: bool) -> None:
    """Adapters in every linear layer, one alone, mixed, and none, in one batch of rows of several lengths."""
    lengths = (200, 180, 12, 30)
    rows, model, other = rows_of(*lengths), loaded(bert), reference(bert)
    bank, plain = AdapterBank.attach(model, merge=merge), AdapterBank.attach(other)
    for each in (bank, plain):
        each.add("de", adapter(model, 2))
        each.add("en", adapter(model, 3))
    with torch.inference_mode(), bank.use(ADAPTERS, lengths):
        found = model(torch.cat(rows), lengths).split(lengths)
    with torch.inference_mode():
        bare = model(torch.cat(rows), lengths).split(lengths)
    assert (found[0] - bare[0]).abs().max() > 0.1
    assert torch.equal(found[2], bare[2])
    for row, states, use in zip(rows, found, ADAPTERS, strict=True):
        with torch.inference_mode(), plain.use([use]):
            expected = other(input_ids=row[None]).last_hidden_state[0]
        torch.testing.assert_close(states, expected, atol=2e-5, rtol=1e-4)


class Codec:
    """As much of a tokenizer as scoring needs."""

    pad = 0


def test_scores_are_those_of_the_padded_model(bert: Path) -> None:
    """More tokens than a batch has, in rows of any length, with and without adapters."""
    draw = random.Random(0)
    requests = []
    for number, row in enumerate(rows_of(*(draw.randrange(3, 90) for _ in range(60)))):
        positions = sorted(draw.sample(range(len(row)), draw.randrange(0, 3)))
        requests.append(ScoreRequest(row.tolist(), positions, tuple(range(20, 33)), ADAPTERS[number % 4]))
    found = []
    for model in (loaded(bert), reference(bert)):
        bank = AdapterBank.attach(model, merge=True)
        bank.add("de", adapter(model, 2))
        bank.add("en", adapter(model, 3))
        found.append(LocalEngine(model, bank, Codec(), full_attention=True).score(requests))  # type: ignore[arg-type]
    for mine, expected, request in zip(*found, requests, strict=True):
        assert mine.shape == (len(request.positions), 13)
        np.testing.assert_allclose(mine, expected, atol=5e-4)


CHANGES: list[dict[str, Any]] = [
    {"model_type": "roberta"},
    {"hidden_act": "gelu_new"},
    {"is_decoder": True},
    {"add_cross_attention": True},
    {"position_embedding_type": "relative_key"},
    {"quantization_config": {"quant_method": "bitsandbytes"}},
    {"num_hidden_layers": 3},
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 10**9},
    {"hidden_size": 128},
    {"hidden_size": "64"},
    {"intermediate_size": 10**12},
    {"vocab_size": 10**12},
    {"vocab_size": 359},
    {"type_vocab_size": 3},
    {"num_attention_heads": 5},
    {"num_attention_heads": 0},
    {"layer_norm_eps": "small"},
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_not_plain_is_left_to_transformers(
    bert: Path, tmp_path: Path, change: dict[str, Any], packed: bool
) -> None:
    folder = pack_folder(bert, tmp_path / "packed") if packed else bert
    config = json.loads((folder / "config.json").read_text())
    assert load_compact_encoder(folder, torch.float32) is not None
    (folder / "config.json").write_text(json.dumps(config | change))
    assert load_compact_encoder(folder, torch.float32) is None


@pytest.mark.parametrize("key", ["model_type", "hidden_act", "vocab_size", "num_hidden_layers", "layer_norm_eps"])
def test_what_the_configuration_does_not_say_is_not_guessed(bert: Path, key: str) -> None:
    config = json.loads((bert / "config.json").read_text())
    del config[key]
    (bert / "config.json").write_text(json.dumps(config))
    assert load_compact_encoder(bert, torch.float32) is None


def test_a_folder_without_config_or_weights(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "other.safetensors")
    assert load_compact_encoder(bert, torch.float32) is None
    (bert / "config.json").unlink()
    assert load_compact_encoder(bert, torch.float32) is None


def test_a_head_is_left_to_transformers(bert: Path, tmp_path: Path) -> None:
    BertForMaskedLM.from_pretrained(bert).save_pretrained(tmp_path / "head")
    assert load_compact_encoder(tmp_path / "head", torch.float32) is None


def test_what_scoring_needs_not_is_left_out(tmp_path: Path) -> None:
    """A pooling layer, numbers of positions, and the prefix of files of other classes."""
    folder = save_bert(tmp_path / "pooled", pooler=True)
    state = load_file(folder / "model.safetensors")
    assert any(name.startswith("pooler.") for name in state)
    expected = backbone_fingerprint(loaded(folder))
    state["embeddings.position_ids"] = torch.arange(290)[None]
    save_file({f"bert.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    assert backbone_fingerprint(loaded(folder)) == expected


@pytest.mark.parametrize("packed", [False, True])
def test_opening_a_model_and_predicting_does_not_load_transformers(
    tmp_path: Path, tiny_tokenizer: Any, corpus: dict[str, list[Sentence]], packed: bool
) -> None:
    backbone = save_bert(tmp_path / "bert", tiny_tokenizer)
    backbone = pack_folder(backbone, tmp_path / "packed") if packed else backbone
    create_model(tmp_path / "model", config_of(backbone), {"de": LanguageData(corpus["de"])}, backbone=backbone)
    code = (
        "import sys\nfrom retrieveall import RetrieveAll\n"
        f"model = RetrieveAll.from_pretrained({str(tmp_path / 'model')!r}, device='cpu', allow_no_adapters=True)\n"
        "model.predict('Anna')\n"
        "print(type(model.engine.model).__name__, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CompactBert False"
