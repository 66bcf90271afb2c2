"""Memory that was freed and that the C library keeps."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

__all__ = ["give_back"]


def _find_trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``; other C libraries have none."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # the last on Windows, where there is no library without a name
        return None
    return found


_trim = _find_trim()


def give_back() -> None:
    """Return to the system what was freed; takes some milliseconds, in which other threads may wait to allocate.

    glibc gives each thread memory of its own to allocate from, and keeps what is freed there. The largest allocations
    beside the worker's are those of language changes, which prepare tables in several threads.
    """
    if _trim is not None:
        _trim(0)
