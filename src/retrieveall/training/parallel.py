"""Several processes that train as one: rank and count, synchronisation, and results gathered from all.

``accelerate launch`` and ``torchrun`` start the same program once for every device. Processes exchange numbers and JSON
in tensors; nothing is pickled. With one process all of this is free. The processes share the model folder, the run
folder and the corpora: one machine, or a file system that all machines mount.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch

from retrieveall.errors import ConfigError, MissingExtraError, RetrieveAllError

__all__ = ["Processes"]

# How the launchers say that there are several processes: torchrun and accelerate, then the MPIs that accelerate starts.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# The others wait while the main process retrieves, for a large corpus longer than torch's ten minutes. A process that
# dies is noticed by the launcher, which stops the rest.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run: ``rank`` 0 to ``count`` - 1."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str | None = None) -> Processes:
        """Join the process group, where a launcher started several processes; every one of them must call this.

        Args:
            device: "cpu" keeps to the CPU where there is a GPU.

        Raises:
            ConfigError: the launcher was told to shard the model.
            MissingExtraError: several processes without accelerate.
        """
        if not any(int(os.environ.get(name) or 1) > 1 for name in _SIZES):
            return cls()
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            # It would shard the adapters, too, which checkpoints then neither save nor load whole, and processes that
            # validate unequal numbers of batches would wait for each other's shards for ever.
            raise ConfigError(
                "expected processes without accelerate's own FSDP, got it; launch with examples/accelerate/ddp.yaml, "
                "and to shard a backbone that does not fit on one GPU set shard_backbone=true"
            )
        try:
            from accelerate import PartialState
        except ImportError:
            raise MissingExtraError("accelerate", "train", "training in several processes") from None
        cpu = device == "cpu" or not torch.cuda.is_available()
        state = PartialState(cpu=cpu, timeout=_PATIENCE)
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs what is inside, then the others do, which find what it wrote.

        Raises:
            RetrieveAllError: in the other processes, when the main one failed inside.
        """
        if self.count > 1 and not self.main and not self.agree(True):
            raise RetrieveAllError("the main process has failed; its own message says why")
        try:
            yield
        except Exception:
            if self.count > 1 and self.main:
                self.agree(False)
            raise
        if self.count > 1 and self.main:
            self.agree(True)

    def agree(self, value: bool) -> bool:
        """What the main process says; all must call this."""
        if self.count == 1:
            return value
        said = torch.tensor(int(value), device=self.device)
        torch.distributed.broadcast(said, src=0)
        return bool(said.item())

    def total(self, value: int) -> int:
        """The sum over all processes; all must call this."""
        if self.count == 1:
            return value
        summed = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(summed)
        return int(summed.item())

    def deal(self, items: Sequence[Any]) -> Sequence[Any]:
        """This process's share of ``items``, dealt out in turn."""
        return items[self.rank :: self.count]

    def collect(self, share: Sequence[Any]) -> list[Any]:
        """The opposite of ``deal``: the JSON values that the processes made of their shares, in the order of all.

        Every process gets all; tuples come back as lists where there are several processes.
        """
        if self.count == 1:
            return list(share)
        own = torch.tensor(list(json.dumps(list(share)).encode()), dtype=torch.uint8, device=self.device)
        sizes = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.count)]
        torch.distributed.all_gather(sizes, torch.tensor([len(own)], device=self.device))
        longest = max(int(size) for size in sizes)
        parts = [torch.zeros(longest, dtype=torch.uint8, device=self.device) for _ in range(self.count)]
        torch.distributed.all_gather(parts, torch.nn.functional.pad(own, (0, longest - len(own))))
        shares = [json.loads(bytes(part[: int(size)].cpu().numpy())) for part, size in zip(parts, sizes, strict=True)]
        merged: list[Any] = [None] * sum(map(len, shares))
        for rank, values in enumerate(shares):
            merged[rank :: self.count] = values
        return merged
