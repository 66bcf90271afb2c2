"""Routing: retrieved sentences vote for the adapters that run."""

from __future__ import annotations

from retrieveall.routing.router import Router

__all__ = ["Router"]
