"""The module that is trained: a frozen backbone, the bank with one adapter a language, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.adapters.bank import AdapterBank
from retrieveall.engines.transformers import attention_mask, read_tag_logits
from retrieveall.training.shards import Shards

__all__ = ["TaggingModel"]


class TaggingModel(nn.Module):
    """Loss on the positions that are read, nowhere else; each row runs through its own language's adapter.

    Tags are read there, or with ``tag_ids`` None the next token of a written answer, among the whole vocabulary.
    ``checkpointing`` keeps the activations at the borders of layers only and computes the others again. ``shards`` are
    those of ``backbone``, where it was cut.
    """

    def __init__(
        self,
        backbone: Any,
        bank: AdapterBank,
        tag_ids: Tensor | None,
        languages: Sequence[str],
        *,
        repeat: bool,
        label_smoothing: float = 0.0,
        checkpointing: bool = False,
        shards: Shards | None = None,
    ) -> None:
        super().__init__()
        if shards is None:
            self.backbone = backbone
        else:  # unregistered: DDP takes no model with tensors in parts, and Trainer need not move it
            object.__setattr__(self, "backbone", backbone)
        self.shards = shards
        self.bank = bank
        self.languages = tuple(languages)
        self._read = shards.read if shards else partial(read_tag_logits, backbone)
        self._repeat = repeat
        self._smoothing = label_smoothing
        self.register_buffer("tag_ids", tag_ids, persistent=False)
        if checkpointing:
            # What is computed again in the backward pass needs the adapters of the forward pass.
            options = {"use_reentrant": False, "context_fn": bank.checkpoint_contexts}
            # The name of transformers 6; the old one is a method of every release.
            enable = getattr(backbone, "activation_checkpointing_enable", None)
            (enable or backbone.gradient_checkpointing_enable)(options)

    def train(self, mode: bool = True) -> TaggingModel:
        super().train(mode)
        self.backbone.eval()  # frozen: its dropout, if any, stays off
        for layer in self.backbone.modules():
            if getattr(layer, "gradient_checkpointing", False):
                layer.training = mode  # transformers checkpoints in training mode only
                if isinstance(getattr(layer, "dropout", None), float):
                    layer.dropout = 0.0
        return self

    def forward(
        self, ids: Tensor, lengths: Tensor, reads: Tensor, tags: Tensor, languages: Tensor
    ) -> dict[str, Tensor]:
        """Mean cross-entropy and the logits [reads, tags or vocabulary]; shapes as ``Collator`` gives them."""
        mask = attention_mask(lengths, ids.shape[1], repeat=self._repeat, dtype=self.backbone.dtype)
        with self.bank.use([{self.languages[i]: 1.0} for i in languages.tolist()]):
            logits = self._read(ids, mask, reads, self.tag_ids)  # type: ignore[arg-type]
        smoothing = self._smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, tags, label_smoothing=smoothing, reduction="sum")
        loss = loss / max(1, len(tags))  # one process of several may have rows without a label
        return {"loss": loss, "logits": logits}
