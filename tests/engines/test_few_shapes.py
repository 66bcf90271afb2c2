"""However many numbers of tokens the batches have, oneDNN is asked for few shapes: it keeps memory for each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bert_folders import config_of, pack_folder, save_bert
from torch.utils._python_dispatch import TorchDispatchMode

from retrieveall.adapters.bank import AdapterBank
from retrieveall.engines import ScoreRequest
from retrieveall.engines.local.backbone import open_backbone
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.engines.local.fast_linear import Bfloat16Linear, use_precision
from retrieveall.engines.local.few_shapes import gelu, padded_rows


def test_numbers_of_rows() -> None:
    sizes = [padded_rows(rows) for rows in range(1, 1025)]
    assert all(size >= rows for rows, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 24
    assert all(size <= 1.125 * rows for rows, size in enumerate(sizes, 1) if rows > 256)
    assert padded_rows(0) == 0
    assert padded_rows(100_000) < 1.07 * 100_000


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33, 64, 100])
def test_gelu_is_that_of_torch(rows: int) -> None:
    x = 3 * torch.randn(rows, 24)
    expected = F.gelu(x)
    with torch.inference_mode():
        assert torch.equal(gelu(x.clone()), expected)
    copy = x.clone().requires_grad_()
    gelu(copy).sum().backward()
    assert copy.grad is not None


class _Shapes(TorchDispatchMode):
    """What oneDNN may be asked for: bfloat16 products and GELU, with the shapes of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        product = name in ("mm", "addmm", "linear", "bmm") and tensors[0].dtype == torch.bfloat16
        if product or name in ("gelu", "gelu_"):
            self.seen.add((name.rstrip("_"), *(tuple(each.shape) for each in tensors)))
        return func(*args, **(kwargs or {}))


def test_many_lengths_have_few_shapes(tmp_path: Path) -> None:
    folder = pack_folder(save_bert(tmp_path / "bert"), tmp_path / "packed")
    model = open_backbone(config_of(folder), folder, torch.device("cpu"))
    use_precision(model, "bfloat16")
    engine = LocalEngine(model, AdapterBank.attach(model), SimpleNamespace(pad=0), full_attention=True)  # type: ignore[arg-type]
    longest = model.config.max_position_embeddings

    def ask(length: int) -> None:
        engine.score([ScoreRequest([5] * length, range(0, length, 2), (5, 6, 7), {})])

    with _Shapes() as shapes:
        for length in range(1, longest + 1):
            ask(length)
    matrices = {each._half.shape for each in model.modules() if isinstance(each, Bfloat16Linear)}
    sizes = {padded_rows(length) for length in range(1, longest + 1)}
    products = [each for each in shapes.seen if each[0] != "gelu"]
    assert 0 < len(products) <= len(matrices) * len(sizes)
    assert 0 < len(shapes.seen) - len(products) <= 31 + longest // 32
