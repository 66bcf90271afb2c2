"""Accelerators by name, with figures from the vendors' data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from retrieveall.errors import InputError

__all__ = ["GPUS", "Gpu", "find_gpu"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """``tflops``: dense bfloat16 with float32 accumulation, 10^12 operations per second. ``memory``: 10^9 bytes.

    ``bandwidth``: memory bandwidth, 10^9 bytes per second.
    """

    name: str
    title: str
    tflops: float
    memory: float
    bandwidth: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h200", "H200 SXM", 989, 141, 4800),
        Gpu("h100", "H100 SXM", 989, 80, 3350),
        Gpu("h100-pcie", "H100 PCIe", 756, 80, 2000),
        Gpu("a100", "A100", 312, 80, 2039),
        Gpu("a100-40", "A100", 312, 40, 1555),
        Gpu("l40s", "L40S", 362, 48, 864),
        Gpu("l4", "L4", 121, 24, 300),
        Gpu("a10", "A10", 125, 24, 600),
        Gpu("rtx4090", "RTX 4090", 165, 24, 1008),
        Gpu("rtx3090", "RTX 3090", 71, 24, 936),
    )
}


def find_gpu(name: str) -> Gpu:
    """Look up a GPU by name, ignoring case.

    Raises:
        InputError: unknown name; lists the known ones.
    """
    found = GPUS.get(name.lower())
    if found is None:
        raise InputError(f"expected a GPU among {', '.join(GPUS)}, got {name[:40]!r}")
    return found
