"""Fixtures of the tests of storage."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def fast(monkeypatch):
    """No real flushing: it takes milliseconds a call and no test can see it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
