"""Linear layers in 8 bits and in bfloat16 against float32, alone and in a model with adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bert_folders import config_of, pack_folder, save_bert
from torch import nn

from retrieveall.adapters import LoraLayer, LoraWeights
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import CpuPrecision, LoraSettings, ModelConfig, dump_yaml, load_yaml
from retrieveall.engines import ScoreRequest
from retrieveall.engines.local import fast_linear
from retrieveall.engines.local.backbone import open_backbone
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.engines.local.fast_linear import Bfloat16Linear, Int8Linear, choose_precision, has_int8, use_precision
from retrieveall.model_folder import ModelFolder
from tiny import requests_of

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this build of torch has no FBGEMM")
KINDS = [pytest.param(Int8Linear, marks=needs_int8), Bfloat16Linear]


def layer(inputs: int = 96, outputs: int = 40, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 96), (2, 5, 96), (0, 96), (3, 0, 96)])
def test_near_to_float32(kind: type[nn.Linear], bias: bool, size: tuple[int, ...]) -> None:
    plain = layer(bias=bias)
    x = torch.randn(size) * torch.logspace(-6, 6, size[0] or 1).view(-1, *[1] * (len(size) - 1))
    expected, found = plain(x), kind(plain)(x)
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    # By the row, so that rows of small numbers are as near as others.
    scale = expected.abs().amax(-1, keepdim=True) if expected.numel() else 1.0
    assert ((found - expected).abs() <= 0.03 * scale).all()


@needs_int8
def test_extreme_rows_do_not_overflow() -> None:
    """Without VNNI two products are added in 16 bits: 255 * 127 * 2 would not fit."""
    plain = layer(1536, 32, bias=False)
    plain.weight.copy_(torch.ones(32, 1536))
    plain.weight[1::2] *= -1
    fast = Int8Linear(plain)
    for x in (torch.ones(2, 1536), -torch.ones(2, 1536), torch.cat([torch.ones(2, 1535), -torch.ones(2, 1)], 1)):
        torch.testing.assert_close(fast(x), plain(x), atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(fast(torch.zeros(1, 1536)), torch.zeros(1, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_others(kind: type[nn.Linear]) -> None:
    fast = kind(layer())
    rows = torch.randn(64, 96)
    rows[7] *= 1000
    together = fast(rows)
    tolerance = 0.0 if kind is Int8Linear else 1e-2
    for first, last in ((0, 1), (7, 8), (3, 20), (6, 9)):
        torch.testing.assert_close(fast(rows[first:last]), together[first:last], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(kind: type[nn.Linear], value: float) -> None:
    x = torch.randn(2, 96)
    x[1, 5] = value
    found = kind(layer())(x)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


@needs_int8
def test_stored_codes_are_used_as_they_are(packed: Path) -> None:
    """A packed backbone loses nothing more: its weights are multiples of the scales already."""
    model = open_backbone(config_of(packed), packed, torch.device("cpu"))
    weights = {name: each.weight.clone() for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    use_precision(model, "int8")
    assert weights
    for name, weight in weights.items():
        fast = model.get_submodule(name)
        assert isinstance(fast, Int8Linear)
        torch.testing.assert_close(torch.ops.quantized.linear_unpack(fast._packed)[0].dequantize(), weight)


def test_auto_takes_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(wanted: CpuPrecision, *, bfloat16: bool, int8: bool) -> CpuPrecision:
        monkeypatch.setattr(fast_linear, "has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(fast_linear, "has_int8", lambda: int8)
        return choose_precision(wanted)

    assert chosen("auto", bfloat16=True, int8=True) == "bfloat16"
    assert chosen("auto", bfloat16=False, int8=True) == "int8"
    assert chosen("auto", bfloat16=False, int8=False) == "same"
    assert chosen("int8", bfloat16=True, int8=False) == "same"
    assert chosen("int8", bfloat16=True, int8=True) == "int8"
    assert chosen("bfloat16", bfloat16=False, int8=True) == "bfloat16"
    assert chosen("same", bfloat16=True, int8=True) == "same"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fast")
    return pack_folder(save_bert(root / "bert"), root / "packed")


def scores(folder: Path, precision: CpuPrecision, rows: Sequence[Sequence[int]]) -> list[Any]:
    """Of a tiny BERT with an adapter on every other row."""
    model = open_backbone(config_of(folder), folder, torch.device("cpu"))
    use_precision(model, precision)
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], LoraSettings(rank=2), 5)
    weights = bank.export("de")
    generator = torch.Generator().manual_seed(4)
    layers = {
        name: LoraLayer(layer.a, 0.05 * torch.randn(layer.b.shape, generator=generator), layer.scaling)
        for name, layer in weights.layers.items()
    }
    assert len(layers) == 12
    bank.add("de", LoraWeights(weights.shape, layers))
    engine = LocalEngine(model, bank, SimpleNamespace(pad=0), full_attention=True)  # type: ignore[arg-type]
    requests = [
        ScoreRequest(ids, range(len(ids)), (5, 6, 7), {"de": 1.0} if number % 2 else {})
        for number, ids in enumerate(rows)
    ]
    found = engine.score(requests)
    for number, request in enumerate(requests):  # F8
        [alone] = engine.score([request])
        np.testing.assert_allclose(alone, found[number], atol=0.1 * np.abs(found[number]).max())
    return found


@pytest.mark.parametrize("precision", [pytest.param("int8", marks=needs_int8), "bfloat16"])
def test_a_model_with_adapters_scores_as_in_float32(packed: Path, precision: CpuPrecision) -> None:
    generator = np.random.default_rng(2)
    rows = [generator.integers(5, 200, size).tolist() for size in (3, 8, 8, 15, 40)]
    expected, found = scores(packed, "same", rows), scores(packed, precision, rows)
    for left, right in zip(expected, found, strict=True):
        assert left.dtype == right.dtype == np.float32
        # Random weights pass errors on, in 7 bits more than in a trained model.
        assert np.abs(left - right).mean() < 0.08 * np.abs(left).max()
        assert np.abs(left - right).max() < 0.4 * np.abs(left).max()


@needs_int8
def test_an_engine_is_opened_with_the_setting_of_the_folder(tiny_model: Path, loaded: RetrieveAll) -> None:
    config = ModelFolder.open(tiny_model).config
    backbone = config.backbone.model_copy(update={"cpu_precision": "int8"})
    engine = LocalEngine.open(config.model_copy(update={"backbone": backbone}), tiny_model, device="cpu")
    assert sum(isinstance(each, Int8Linear) for each in engine.model.modules()) > 4
    requests = requests_of(loaded, ["Karl May in London"], "de")
    np.testing.assert_allclose(engine.score(requests)[0], loaded.engine.score(requests)[0], atol=0.5)
    assert not any(isinstance(each, Int8Linear) for each in loaded.engine.model.modules())


def test_the_setting_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "retrieveall.yaml"
    path.write_text(dump_yaml(config_of("backbone", cpu_precision="int8")))
    assert load_yaml(ModelConfig, path).backbone.cpu_precision == "int8"
    path.write_text(path.read_text().replace("  cpu_precision: int8\n", ""))  # folders of earlier versions
    assert load_yaml(ModelConfig, path).backbone.cpu_precision == "same"
