"""Shards a frozen backbone across processes with torch's ``fully_shard``.

A layer is gathered where it runs, forward and backward, and freed afterwards. The adapters are not sharded: each
process holds them whole, so that their gradients, checkpoints and files are those of a run without shards. Knows
processes and forward passes; knows nothing of batches or adapters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from retrieveall.config import BackboneConfig
from retrieveall.engines.local.forward import score_tokens
from retrieveall.errors import ConfigError
from retrieveall.training.parallel import Processes

__all__ = ["Shards", "check_sharding"]

_SCORE = score_tokens.__name__


def check_sharding(backbone: BackboneConfig, processes: Processes) -> None:
    """Refuse what ``Shards`` cannot do, before weights are loaded.

    Raises:
        ConfigError: a backbone in 4 bits, or a single process.
    """
    if backbone.quantization != "none":
        raise ConfigError(
            f"shard_backbone cannot shard a backbone whose backbone.quantization is {backbone.quantization!r}; "
            "set one of the two only"
        )
    if processes.count == 1:
        raise ConfigError(
            "shard_backbone is true, expected several processes, got one; start them with accelerate launch "
            "--config_file examples/accelerate/ddp.yaml, or set shard_backbone=false"
        )


class Shards:
    """Shards ``backbone`` in place; every process must run the same forward passes, in the same order.

    The backbone is whole on the CPU before. Layers are moved to the device and sharded one after the other, so that no
    device ever holds more than its shard and one layer, or the two embeddings.
    """

    def __init__(self, backbone: Any, processes: Processes) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        self._backbone, self._processes = backbone, processes
        self._uneven = False
        mesh = init_device_mesh(processes.device.type, (processes.count,))
        for part in (*_layers(backbone), backbone):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        # It reads the output embedding past that layer's own forward pass.
        setattr(backbone, _SCORE, MethodType(score_tokens, backbone))
        register_fsdp_forward_method(backbone, _SCORE)
        backbone.register_forward_pre_hook(lambda *_: self._announce(), prepend=True)
        # Buffers for whole layers are made in the first pass. Made in inference mode, none could be trained through.
        self._empty_pass()

    def score(self, *inputs: Any) -> Tensor:
        """``score_tokens`` of the backbone."""
        self._announce()
        logits: Tensor = getattr(self._backbone, _SCORE)(*inputs)
        return logits

    @contextmanager
    def uneven(self) -> Iterator[None]:
        """Inside, processes may run unequal numbers of passes: those that have finished run empty ones until all have,
        since a pass needs the shards of all.
        """
        self._uneven = True
        try:
            yield
        finally:
            self._uneven = False
        while self._processes.total(0):
            self._empty_pass()

    def _announce(self) -> None:
        """Before a pass, tell processes that wait in ``uneven`` to run one, too."""
        if self._uneven:
            self._processes.total(1)

    @torch.no_grad()
    def _empty_pass(self) -> None:
        ids = torch.zeros((1, 1), dtype=torch.long, device=self._processes.device)
        self._backbone(input_ids=ids, use_cache=False)


def _layers(backbone: Any) -> list[nn.Module]:
    """The decoder layers, by the names of their classes that every model of transformers gives."""
    names = set(backbone._no_split_modules or ())
    return [module for module in backbone.modules() if type(module).__name__ in names]
