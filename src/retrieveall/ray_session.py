"""Ray, started on this machine or connected to by address. Usage reports are turned off before it is imported.

Knows nothing of what is run on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from retrieveall.errors import EngineError, InputError, MissingExtraError

__all__ = ["connected", "import_ray", "ray_address"]

_SECONDS = 5.0  # for an answer of the head node; Ray itself tries for minutes
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns on every start
}


def import_ray(purpose: str) -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.update(_SETTINGS)
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", purpose) from None
    return ray


def ray_address(given: str | None) -> str | None:
    """The address of the cluster: as given, else that of the environment; None: Ray is started on this machine."""
    return given or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def connected(ray: Any, address: str | None, **local: Any) -> Iterator[None]:
    """Ray, until the end of the block; one that this process already uses is left as it is.

    Args:
        address: as ``ray.init``; None starts Ray on this machine.
        local: more arguments of ``ray.init``, where it is started here.

    Raises:
        InputError: no valid address.
        EngineError: no answer at the address, or Ray did not start.
    """
    if ray.is_initialized():
        yield
        return
    if address is None:
        options: dict[str, Any] = {"address": "local", "include_dashboard": False, **local}
    else:
        _check_address(address)
        options = {"address": address}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:  # its errors have no common class
        ray.shutdown()
        raise EngineError(_explain(error, address)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Whether something answers there."""
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise InputError(
            f"expected the address of a Ray cluster as HOST:PORT, ray://HOST:PORT or auto, got {address[:80]!r}"
        )
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        raise EngineError(
            f"expected a Ray cluster at {address}, got no answer ({error.strerror or error}); check the address, or "
            "leave it out to start Ray on this machine"
        ) from None


def _explain(error: BaseException, address: str | None) -> str:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any("AuthToken" in str(each) or "Authentication" in type(each).__name__ for each in causes):
        return (
            f"the Ray cluster at {address} asks for a token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to that of the cluster"
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    what = "Ray did not start on this machine" if address is None else f"the Ray cluster at {address} cannot be used"
    return f"{what} ({lines[0][:300]}); try again, or see Ray's logs"
