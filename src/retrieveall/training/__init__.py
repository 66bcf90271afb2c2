"""Training: examples, packed batches, the loop, and model folders from corpora.

Only what needs no torch is imported here.
"""

from __future__ import annotations

from importlib.util import find_spec

from retrieveall.errors import MissingExtraError
from retrieveall.training.data import LanguageData

__all__ = ["LanguageData", "check_installed"]


def check_installed() -> None:
    """Check that the training extras are installed, before any work: transformers asks for them only when all is read,
    indexed and retrieved.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train", "training")
