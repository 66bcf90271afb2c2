"""What all programs share: reading texts, writing spans, time and memory. Standard library only, Python 3.9."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["answer"]


def answer(
    find: Callable[[list[str]], Iterable[list[tuple[int, int, str]]]],
    version: str,
    processor_seconds: Callable[[], float] = time.process_time,
    memory: Callable[[], float] | None = None,
) -> None:
    """Write the spans that ``find`` gives for the texts on standard input, and what it took.

    ``processor_seconds`` and ``memory`` are those of this process, unless others work for it.
    """
    texts = [json.loads(line) for line in sys.stdin]
    list(find(texts[:8]))  # warm-up
    wall, processor = time.perf_counter(), processor_seconds()
    found = list(find(texts))
    figures = {
        "version": version,
        "texts": len(texts),
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": processor_seconds() - processor,
        "peak_memory_mb": (memory or peak_memory)(),
    }
    for spans in found:
        print(json.dumps(spans))
    print(json.dumps(figures))


def peak_memory() -> float:
    """Of this process, in MB of 10^6 bytes, on Linux. What getrusage gives starts with the peak of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
