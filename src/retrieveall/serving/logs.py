"""The log of the service, which never holds a text: also not the messages of unexpected errors, which may quote one."""

from __future__ import annotations

import logging
import traceback

__all__ = ["log_error", "logger"]

logger = logging.getLogger("retrieveall.serving")
_FRAMES = 6


def log_error(error: BaseException) -> None:
    """Log the type of an unexpected error and where it was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    logger.error("%s at %s", type(error).__name__, places)
