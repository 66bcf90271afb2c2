"""One thread for everything in this process and the ones that it starts. Imports no numerical library."""

from __future__ import annotations

import os
import sys

__all__ = ["use_one_thread"]

# As in retrieveall.evaluation.speed, which imports the libraries that read them when they are loaded.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def use_one_thread() -> None:
    """Call it before numpy and torch are imported; of those that are, only torch can still be limited."""
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
