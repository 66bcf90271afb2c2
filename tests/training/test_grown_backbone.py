"""A backbone of the shipped model that is given another layer begins as the model it was."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts" / "mini"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in ("backbone", "packing", "running", "machine"):
        sys.modules.pop(name, None)


def _arguments(layers: int, start: Path | None = None) -> Namespace:
    return Namespace(width=16, inner=24, layers=layers, heads=2, seed=5, vectors=None, start=start, dropout=0.0)


def test_a_new_layer_says_nothing_at_first_and_learns(scripts: None, tmp_path: Path) -> None:
    from backbone import build_model  # type: ignore[import-not-found]

    small = build_model(_arguments(2), vocabulary=50)
    small.save_pretrained(tmp_path)
    large = build_model(_arguments(4, tmp_path), vocabulary=50)
    ids = torch.arange(20).view(2, 10)
    assert len(large.model.layers) == 4
    torch.testing.assert_close(large(ids).logits, small(ids).logits, rtol=0, atol=0)

    large(ids).logits.square().mean().backward()
    for layer in large.model.layers[2:]:
        assert layer.self_attn.o_proj.weight.grad.abs().max() > 0
        assert layer.mlp.down_proj.weight.grad.abs().max() > 0


def test_as_many_layers_are_the_same_weights(scripts: None, tmp_path: Path) -> None:
    from backbone import build_model, grown

    weights = build_model(_arguments(2), vocabulary=50).state_dict()
    assert grown(weights, 2).keys() == weights.keys()
