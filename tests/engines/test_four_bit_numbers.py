"""Four bits a number: what was unpacked is packed to the same codes; rounding is bounded; look-ups equal arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retrieveall.engines.local.four_bits import BLOCK, pack, unpack


def matrix(rows: int, blocks: int, seed: int, size: float = 1.0) -> Tensor:
    """Random numbers of very different sizes by block, some of them zeros."""
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, blocks, BLOCK, generator=draw) * size
    numbers = numbers * torch.randint(0, 4, numbers.shape, generator=draw).clamp(max=1)
    return (numbers * 10.0 ** torch.randint(-7, 3, (rows, blocks, 1), generator=draw)).reshape(rows, blocks * BLOCK)


SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 10_000), st.sampled_from([1e-4, 1.0, 50.0]))


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_what_was_unpacked_is_packed_to_the_same(shape: tuple[int, int, int, float]) -> None:
    codes, scales = pack(matrix(*shape))
    again, scales_again = pack(unpack(codes, scales))
    assert torch.equal(unpack(again, scales_again), unpack(codes, scales))
    assert torch.equal(scales_again, scales)
    assert torch.equal(again, codes)


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_a_number_moves_by_half_a_step_at_most(shape: tuple[int, int, int, float]) -> None:
    numbers = matrix(*shape)
    found = unpack(*pack(numbers))
    blocks, near = (each.reshape(-1, BLOCK) for each in (numbers, found))
    largest = blocks.abs().amax(dim=1, keepdim=True)
    step = largest / 8
    # The number of the other sign with the largest magnitude has no code of its own: a whole step.
    assert ((blocks - near).abs() <= step * 1.01 + 1e-5).all()
    inside = blocks.abs() <= 7 * step
    assert ((blocks - near).abs() <= step * 0.51 + 1e-5)[inside].all()
    kept = (largest > 1e-4).squeeze(1)
    assert torch.equal(near.abs().amax(1)[kept], (near.abs() * (blocks.abs() == largest)).amax(1)[kept])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1100), st.integers(1, 3), st.integers(0, 10_000))
def test_unpacking_is_the_arithmetic_of_codes(rows: int, blocks: int, seed: int) -> None:
    """Also over more rows than are unpacked at once, and for codes and scales that ``pack`` never gives."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, blocks * BLOCK // 2), generator=draw).to(torch.uint8)
    scales = torch.randn(rows, blocks, generator=draw).half()
    low, high = (codes & 15).float() - 8, (codes >> 4).float() - 8
    expected = torch.stack((low, high), dim=2).reshape(rows, blocks, BLOCK) * scales.float()[:, :, None]
    found = unpack(codes, scales)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.reshape(rows, blocks * BLOCK))


def test_zeros_stay_zeros() -> None:
    codes, scales = pack(torch.zeros(3, 2 * BLOCK))
    assert (codes.shape, codes.dtype) == ((3, BLOCK), torch.uint8)
    assert (scales.shape, scales.dtype) == ((3, 2), torch.float16)
    assert not unpack(codes, scales).any()


def test_the_order_is_that_of_the_row() -> None:
    numbers = torch.arange(-8.0, 8.0).repeat(2)[None]  # all sixteen values of the scale 1
    codes, scales = pack(numbers)
    assert scales.item() == 1
    assert codes[0, :8].tolist() == [low | low + 1 << 4 for low in range(0, 16, 2)]
    assert torch.equal(unpack(codes, scales), numbers)


@pytest.mark.parametrize("columns", [1, 16, 31, 33, 48])
def test_other_widths_are_refused(columns: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 32 columns, got {columns}"):
        pack(torch.zeros(2, columns))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e6])
def test_what_no_scale_can_hold_is_refused(number: float) -> None:
    numbers = torch.ones(2, BLOCK)
    numbers[1, 5] = number
    with pytest.raises(ValueError, match="finite"):
        pack(numbers)
