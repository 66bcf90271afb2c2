"""The adapters of one linear layer, and the batched product that adds them to its output.

Knows one layer; knows neither the model around it nor where adapters come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.adapters.mixture import BatchMixture, Mixture, Run
from retrieveall.adapters.weights import LoraLayer

__all__ = ["LayerAdapters"]


class LayerAdapters(nn.Module):
    """The adapters of one linear layer by language; trainable ones are parameters, the others buffers.

    Buffers hold ``A`` [rank, in] and ``scaling * B^T`` [rank, out] in the dtype of the backbone; parameters
    hold ``A`` and ``B`` [out, rank] as PEFT does, one pair a language, so that an absent language has no
    gradient.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self._ranks: dict[str, int] = {}
        self._scalings: dict[str, float] = {}

    def rank(self, language: str) -> int:
        """Zero where the language's adapter leaves this layer alone."""
        return self._ranks.get(language, 0)

    def add(self, language: str, layer: LoraLayer, *, dtype: torch.dtype, device: torch.device) -> None:
        """Hold a frozen copy of ``layer``."""
        self.remove(language)
        # Scaled before the cast: one rounding instead of two.
        scaled = (layer.b.detach().float() * layer.scaling).t().contiguous()
        self.register_buffer(f"a_{language}", layer.a.detach().to(device, dtype, copy=True), persistent=False)
        self.register_buffer(f"b_{language}", scaled.to(device, dtype, copy=True), persistent=False)
        self._ranks[language] = layer.rank

    def add_trainable(self, language: str, layer: LoraLayer, *, device: torch.device) -> None:
        """Hold ``layer`` as float32 parameters ``A_<language>`` and ``B_<language>``."""
        self.remove(language)
        for name, tensor in (("A", layer.a), ("B", layer.b)):
            value = tensor.detach().to(device, torch.float32, copy=True)
            self.register_parameter(f"{name}_{language}", nn.Parameter(value))
        self._ranks[language] = layer.rank
        self._scalings[language] = layer.scaling

    def remove(self, language: str) -> None:
        """Forget the language; nothing happens where it was unknown."""
        if self._ranks.pop(language, 0):
            trainable = self._scalings.pop(language, None) is not None
            for name in ("A", "B") if trainable else ("a", "b"):
                delattr(self, f"{name}_{language}")

    def parameters_of(self, language: str) -> list[nn.Parameter]:
        """``[A, B]`` of a trainable language, or an empty list."""
        if language not in self._scalings:
            return []
        found = (self._parameters[f"{letter}_{language}"] for letter in "AB")
        return [parameter for parameter in found if parameter is not None]

    def export(self, language: str) -> LoraLayer:
        """A float32 copy on the CPU of a trainable language's layer."""
        a, b = (p.detach().to("cpu", torch.float32, copy=True) for p in self.parameters_of(language))
        return LoraLayer(a, b, self._scalings[language])

    def forward(self, x: Tensor, out: Tensor, mixture: BatchMixture) -> Tensor:
        """``out[b] + sum_p W[b, p] * s_p * B_p A_p x[b]``, as in arXiv 2505.19128.

        Args:
            x: input of the linear layer, [batch, length, in] or [batch, in].
            out: its output, [batch, length, out] or [batch, out]; overwritten where no gradient is recorded.
            mixture: the weights of each row.
        """
        if not any(self.rank(language) for language in mixture.languages):
            return out
        if mixture.runs is not None:
            return self._add_runs(x, out, mixture.runs)
        a, b = self._gathered(mixture, x.device)
        if x.dim() == 2:
            return _add_product(x.unsqueeze(1), out.unsqueeze(1), a, b).squeeze(1)
        return _add_product(x, out, a, b)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, runs: Sequence[Run]) -> Tensor:
        """The output of the linear layer with its adapters, for inference.

        A run of many tokens is multiplied by the sum of ``weight`` and its adapters, which is made here and dropped: at
        width 384 this costs as much as the low-rank products of about 100 tokens.
        """
        merged = [self._is_merged(x[run.start : run.stop], run.mixture) for run in runs]
        if not any(merged):
            return self._add_runs(x, F.linear(x, weight, bias), runs)
        if len(runs) == 1:
            return F.linear(x, self._merge(weight, runs[0].mixture), bias)
        out = x.new_empty(*x.shape[:-1], self.out_features)
        for run, whole in zip(runs, merged, strict=True):
            some, piece = x[run.start : run.stop], out[run.start : run.stop]
            if whole:
                piece.copy_(F.linear(some, self._merge(weight, run.mixture), bias))
            else:
                piece.copy_(self._add_mixture(some, F.linear(some, weight, bias), run.mixture))
        return out

    def _is_merged(self, x: Tensor, mixture: Mixture) -> bool:
        """Whether merging takes fewer multiplications than the products: a rank, in x out for tokens x (in + out)."""
        tokens = x.shape[:-1].numel()
        cheaper = tokens * (self.in_features + self.out_features) > self.in_features * self.out_features
        return cheaper and any(self.rank(language) for language, _ in mixture)

    def _merge(self, weight: Tensor, mixture: Mixture) -> Tensor:
        a, b = self._combined(mixture)
        return torch.addmm(weight, b.t(), a)

    def _add_runs(self, x: Tensor, out: Tensor, runs: Sequence[Run]) -> Tensor:
        if len(runs) == 1:
            return self._add_mixture(x, out, runs[0].mixture)
        pieces = []
        for run in runs:
            piece = out[run.start : run.stop]
            added = self._add_mixture(x[run.start : run.stop], piece, run.mixture)
            if torch.is_grad_enabled():
                pieces.append(added)
            elif added is not piece:
                piece.copy_(added)
        return torch.cat(pieces) if pieces else out

    def _add_mixture(self, x: Tensor, out: Tensor, mixture: Mixture) -> Tensor:
        if not any(self.rank(language) for language, _ in mixture):
            return out
        return _add_product(x, out, *self._combined(mixture))

    def _combined(self, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """A [width, in] and weighted B^T [width, out] of the adapters that this layer has."""
        pairs = [(*self._pair(language), weight) for language, weight in mixture if self.rank(language)]
        weighted = [b if weight == 1.0 else b * weight for _, b, weight in pairs]
        return _concatenated([a for a, _, _ in pairs]), _concatenated(weighted)

    def _gathered(self, mixture: BatchMixture, device: torch.device) -> tuple[Tensor, Tensor]:
        """A and scaled B^T for every row, [batch, width, in] and [batch, width, out]."""
        layout = mixture.layout(tuple(self.rank(language) for language in mixture.languages), device)
        pairs: dict[str | int, tuple[Tensor, Tensor]] = {
            language: self._pair(language) for language in mixture.languages if self.rank(language)
        }
        like = next(iter(pairs.values()))[0]
        for gap in {piece for piece in layout.pieces if isinstance(piece, int)}:
            pairs[gap] = like.new_zeros(gap, self.in_features), like.new_zeros(gap, self.out_features)
        size = len(mixture), layout.width
        # Concatenated straight from the adapters. Stacking the adapters first and indexing the stack moves them twice,
        # which at width 512 and 40 adapters was a third of the whole cost of mixing.
        a = _concatenated([pairs[piece][0] for piece in layout.pieces]).view(*size, self.in_features)
        b = _concatenated([pairs[piece][1] for piece in layout.pieces]).view(*size, self.out_features)
        return a, b if layout.scale is None else b * layout.scale.to(b.dtype)

    def _pair(self, language: str) -> tuple[Tensor, Tensor]:
        if language in self._scalings:
            parameters = self.parameters_of(language)
            return parameters[0], parameters[1].t() * self._scalings[language]
        a, b = self._buffers[f"a_{language}"], self._buffers[f"b_{language}"]
        assert a is not None
        assert b is not None
        return a, b


def _concatenated(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _add_product(x: Tensor, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``out + (x a^T) b``, for ``a`` [width, in] and ``b`` [width, out], or both with a batch dimension.

    Fused into the output where that is possible: at width 256 and rank 16 a separate sum costs as much as the second
    product.
    """
    if not torch.is_autocast_enabled(x.device.type):
        x = x.to(a.dtype)
    batched = a.dim() == 3
    hidden = torch.bmm(x, a.transpose(1, 2)) if batched else F.linear(x, a)
    if out.dtype == hidden.dtype == b.dtype:
        if torch.is_grad_enabled():
            if batched:
                return torch.baddbmm(out, hidden, b)
        elif batched:
            return out.baddbmm_(hidden, b)
        elif out.is_contiguous():
            out.view(-1, out.shape[-1]).addmm_(hidden.reshape(-1, hidden.shape[-1]), b)
            return out
    return out + torch.matmul(hidden, b).to(out.dtype)
