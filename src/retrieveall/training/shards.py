"""A frozen backbone cut into parts, one for each process, which together hold it once.

torch's ``fully_shard`` puts a layer together where it runs, forwards and backwards, and lets go of it afterwards. The
adapters are no part of the backbone: each process holds them whole, so that their gradients, checkpoints and files are
those of a run that cuts nothing. Knows processes and passes of the backbone; knows nothing of batches or adapters.
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
    """Refuse, before weights are loaded, what ``Shards`` cannot do.

    Raises:
        ConfigError: a backbone in 4 bits, or a single process.
    """
    if backbone.quantization != "none":
        raise ConfigError(
            f"shard_backbone cannot cut a backbone whose backbone.quantization is {backbone.quantization!r}; "
            "set one of the two only"
        )
    if processes.count == 1:
        raise ConfigError(
            "shard_backbone is true, expected several processes, got one; start them with accelerate launch "
            "--config_file examples/accelerate/ddp.yaml, or set shard_backbone=false"
        )


class Shards:
    """Cuts ``backbone`` where it stands; every process must make the same passes, in the same order.

    Until then the backbone is whole on the CPU. Each layer is moved to the device of the process, cut, and let go of
    before the next, so that no device ever holds more than its part and one layer, or the two embeddings.
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
        """Inside, processes may make passes of different number: those that are done go on with empty ones until all
        are, since each pass takes the parts of all.
        """
        self._uneven = True
        try:
            yield
        finally:
            self._uneven = False
        while self._processes.total(0):
            self._empty_pass()

    def _announce(self) -> None:
        """Before a pass, tell those that wait in ``uneven`` to make one, too."""
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
