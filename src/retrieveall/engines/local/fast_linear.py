"""Linear layers with cheaper products, for predicting on a CPU: 8-bit integers, or bfloat16 where the processor has it.

Inputs, outputs and adapters stay in the backbone's dtype. A row of the result depends on that row of the input alone,
so that a text gets the same scores in every batch. Nothing here can be trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.config import CpuPrecision
from retrieveall.engines.local.few_shapes import padded_rows

__all__ = ["Bfloat16Linear", "Int8Linear", "choose_precision", "has_bfloat16", "has_int8", "use_precision"]

_LEVELS = 127
"""Steps between the smallest and the largest number of a row: 7 bits. Processors without VNNI add two products of an
input and a weight in 16 bits, which 127 * 127 * 2 fits and 8 bits would overflow."""
_SMALLEST = 1e-12
"""Least difference between the numbers of a row, so that a constant row is not divided by zero."""


def has_int8() -> bool:
    """Whether this build of torch multiplies 8-bit integers with FBGEMM, which is made for x86."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; one that does not is ten times slower with it."""
    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_precision(wanted: CpuPrecision) -> CpuPrecision:
    """The precision that is used on this processor: ``"same"`` where it lacks the wanted one."""
    if wanted == "auto":
        return "bfloat16" if has_bfloat16() else choose_precision("int8")
    return "same" if wanted == "int8" and not has_int8() else wanted


def use_precision(model: nn.Module, wanted: CpuPrecision) -> None:
    """Replace the linear layers of a frozen float32 ``model`` on a CPU, except its output embedding.

    The float32 weights are dropped one by one, so that both are never in memory as a whole.
    """
    precision = choose_precision(wanted)
    if precision == "same":
        return
    kind: type[_Reduced] = Int8Linear if precision == "int8" else Bfloat16Linear
    head = getattr(model, "get_output_embeddings", lambda: None)()
    for parent in list(model.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, nn.Linear) and not isinstance(linear, _Reduced) and linear is not head:
                setattr(parent, name, kind(linear))


class _Reduced(nn.Linear):
    """A linear layer that keeps its weight in another form than ``weight``, which is empty and has the dtype and the
    device of its results.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter(linear.weight.new_empty(0, self.in_features), requires_grad=False)
        self.bias = linear.bias


class Int8Linear(_Reduced):
    """A product of 8-bit weights, with one scale an output, and 7-bit inputs, with one range a row.

    A row is moved and stretched to 0 to 1, multiplied, and the product stretched and moved back. FBGEMM's own dynamic
    quantisation has one range for all rows, so that a text would change with the others of its batch.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-7)
        codes = (weight / scales[:, None]).round_().clamp_(-127, 127)
        # In float64, and divided once: what the product subtracts for each row is exactly this.
        self.sums = nn.Parameter((codes.sum(dim=1, dtype=torch.float64) * scales).float(), requires_grad=False)
        self._packed = _pack(codes.to(torch.int8), scales)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)
        low = rows.amin(dim=1, keepdim=True)  # torch.aminmax takes ten times as long as both
        span = (rows.amax(dim=1, keepdim=True) - low).clamp_(min=_SMALLEST)
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            (rows - low).div_(span), 1 / _LEVELS, 0, self._packed
        )
        if self.bias is None:
            product.mul_(span)
        else:
            product = torch.addcmul(self.bias, product, span)
        return product.addcmul_(low, self.sums).view(*input.shape[:-1], self.out_features)


class Bfloat16Linear(_Reduced):
    """A product in bfloat16, which is summed in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._half = nn.Parameter(linear.weight.detach().bfloat16(), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)
        padded = torch.empty(padded_rows(len(rows)), self.in_features, dtype=torch.bfloat16)
        padded[: len(rows)] = rows
        padded[len(rows) :] = 0.0
        product = F.linear(padded, self._half)[: len(rows)].to(input.dtype)
        if self.bias is not None:
            product.add_(self.bias)
        return product.view(*input.shape[:-1], self.out_features)


def _pack(codes: Tensor, scales: Tensor) -> Any:
    """FBGEMM's form of a matrix int8 [rows, columns] with a scale for each row."""
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # torch means to move quantised tensors, not these products, to another package
            warnings.simplefilter("ignore", UserWarning)
            quantised = torch._make_per_channel_quantized_tensor(codes, scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(quantised, None)
    finally:
        torch.backends.quantized.engine = engine
