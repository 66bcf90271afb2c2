"""Whether what training needs beside the base installation is there. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec

from retrieveall.errors import MissingExtraError

__all__ = ["check_installed"]


def check_installed() -> None:
    """To be called before any work: transformers asks for accelerate only when all is read, indexed and retrieved.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train", "training")
