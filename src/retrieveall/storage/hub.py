"""The Hugging Face hub, where it cannot be reached: fail at once instead of trying again for a minute."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

__all__ = ["fail_fast"]

_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}


@contextmanager
def fail_fast(name: str) -> Iterator[None]:
    """While the model or data set ``name`` is loaded, use only local copies if the hub accepts no connection.

    The hub client tries six times with growing pauses, for every file. Offline it looks into its cache and fails.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or Path(name).exists() or _is_reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _is_reachable(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    if parts.scheme in getproxies() or "ALL_PROXY" in os.environ or "all_proxy" in os.environ:
        return True  # the proxy knows
    try:
        socket.create_connection((parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)), _SECONDS).close()
    except OSError:
        return False
    return True
