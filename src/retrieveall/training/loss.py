"""The module that is trained: a backbone, perhaps with an adapter for each language, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import TrainingConfig
from retrieveall.engines.local.forward import attention_mask, score_tokens
from retrieveall.errors import ConfigError
from retrieveall.training.shards import Shards

__all__ = ["PredictionLoss", "add_dropout", "compile_backbone", "takes_packed_rows"]

_ADDED = ("o_proj", "out_proj", "down_proj", "fc2", "c_proj")
"""How architectures name the layers whose outputs are added to the residual stream."""


class PredictionLoss(nn.Module):
    """Cross-entropy at the positions that are read: of their tags, or of the next tokens of a written answer.

    Args:
        bank: attached to ``backbone``; a row runs through the adapter of its language where one is trained.
        candidates: the tokens among which it chooses, ``Decoder.candidates``; None for the whole vocabulary.
        languages: named by the numbers in a batch's ``languages``; empty where adapters are not trained.
        full_attention: remove the causal mask.
        packed: rows hold several sequences.
        shards: those of ``backbone``, where it is sharded.
    """

    def __init__(
        self,
        backbone: Any,
        bank: AdapterBank,
        candidates: Sequence[int] | None,
        config: TrainingConfig,
        *,
        languages: Sequence[str],
        full_attention: bool,
        packed: bool,
        shards: Shards | None = None,
    ) -> None:
        super().__init__()
        if shards is None:
            self.backbone = backbone
        else:  # unregistered: DDP takes no model with tensors in parts, and Trainer need not move it
            object.__setattr__(self, "backbone", backbone)
        self.bank = bank
        self.shards = shards
        self.languages = tuple(languages)
        self._full, self._packed = full_attention, packed
        self._smoothing = config.label_smoothing
        self._score = partial(score_tokens, backbone) if shards is None else shards.score
        chosen = None if candidates is None else torch.tensor(candidates)
        self.register_buffer("candidates", chosen, persistent=False)
        self.candidates: Tensor | None
        if config.gradient_checkpointing:
            # What is computed again in the backward pass needs the adapters of the forward pass.
            options = {"use_reentrant": False, "context_fn": bank.checkpoint_contexts}
            # The name of transformers 6; the old one is a method of every release.
            enable = getattr(backbone, "activation_checkpointing_enable", None)
            (enable or backbone.gradient_checkpointing_enable)(options)

    def train(self, mode: bool = True) -> PredictionLoss:
        super().train(mode)
        if self.languages:
            self.backbone.eval()  # frozen: its own dropout, if any, stays off
            for layer in self.backbone.modules():
                if getattr(layer, "gradient_checkpointing", False):
                    layer.training = mode  # transformers checkpoints in training mode only
                    if isinstance(getattr(layer, "dropout", None), float):
                        layer.dropout = 0.0
        for hook in _dropouts(self.backbone):
            hook.active = mode
        return self

    def forward(
        self, ids: Tensor, segments: Tensor, places: Tensor, reads: Tensor, labels: Tensor, languages: Tensor
    ) -> dict[str, Tensor]:
        """The mean loss of a batch of ``ExampleBatches``; 0 where nothing is read."""
        mask = attention_mask(segments, full=self._full, packed=self._packed, dtype=self.backbone.dtype)
        with self._adapters(languages):
            logits = self._score(ids, mask, reads, self.candidates, places if self._packed else None)
        smoothing = self._smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
        return {"loss": loss / max(1, len(labels))}

    def _adapters(self, languages: Tensor) -> AbstractContextManager[None]:
        if not self.languages:
            return nullcontext()
        return self.bank.use([{self.languages[i]: 1.0} for i in languages.tolist()])


def takes_packed_rows(backbone: Any, kernel: str) -> bool:
    """Whether attention can be kept inside each sequence of a row: by a mask [batch, 1, length, length], with positions
    that begin anew.
    """
    return kernel != "flash_attention_2" and "position_ids" in signature(backbone.base_model.forward).parameters


class _Dropout:
    """A hook that drops some of a layer's output while ``active``."""

    def __init__(self, rate: float) -> None:
        self.rate, self.active = rate, False

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.rate, self.active)


def add_dropout(backbone: Any, rate: float) -> None:
    """Dropout on embeddings and on what each layer adds to the residual stream; many language models have none.

    Raises:
        ConfigError: no layer is named as those of known architectures are.
    """
    if not rate:
        return
    layers = [module for name, module in backbone.named_modules() if name.rpartition(".")[2] in _ADDED]
    if not layers:
        raise ConfigError(
            f"dropout is {rate}, expected a backbone with layers named {', '.join(_ADDED)}, found none; set it to 0"
        )
    for module in (backbone.get_input_embeddings(), *layers):
        module.register_forward_hook(_Dropout(rate))


def _dropouts(backbone: Any) -> list[_Dropout]:
    hooks = (hook for module in backbone.modules() for hook in module._forward_hooks.values())
    return [hook for hook in hooks if isinstance(hook, _Dropout)]


def compile_backbone(backbone: Any) -> None:
    """Let ``torch.compile`` make one program of the layers, for batches of one shape; costs minutes, once a shape.

    What is not to be compiled, such as validation, runs in ``torch.compiler.set_stance("force_eager")``.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 64  # a program for each language
    backbone.base_model.compile(dynamic=False)
