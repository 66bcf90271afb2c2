"""Skips the tests of the service where its libraries are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

for _name in ("fastapi", "uvicorn", "httpx", "prometheus_client"):
    pytest.importorskip(_name, reason="the service needs the extra 'serve', its client httpx")


@pytest.fixture
def fake() -> Iterator[tuple[Any, str, Any]]:
    """A fake model, the address of its server, and the service."""
    from serving_fakes import FakeModel, live

    model = FakeModel()
    with live(model) as (url, service):
        yield model, url, service


@pytest.fixture
def http(fake: tuple[Any, str, Any]) -> Iterator[Any]:
    """A plain HTTP client of the fake model's server."""
    import httpx

    with httpx.Client(base_url=fake[1], timeout=30, trust_env=False) as client:
        yield client
