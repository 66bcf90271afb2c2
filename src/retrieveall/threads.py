"""How many processors there are, and how many threads the numerical libraries use."""

from __future__ import annotations

import os
import sys

__all__ = ["usable_cpus", "use_threads"]


def usable_cpus() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(threads: int | None) -> None:
    """Limit the threads of torch, OpenMP and BLAS; call it before any of them is imported. None changes nothing."""
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:  # already imported: environment variables have no effect
        sys.modules["torch"].set_num_threads(threads)
