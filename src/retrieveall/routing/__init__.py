"""Routing: from the votes of retrieved sentences to the adapters that run."""

from __future__ import annotations

from retrieveall.routing.router import Router

__all__ = ["Router"]
