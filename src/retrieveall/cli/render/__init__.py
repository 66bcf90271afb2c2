"""Render predictions as table, JSONL, CSV, TSV, CoNLL or HTML strings."""

from __future__ import annotations

from retrieveall.cli.render.base import Format, Renderer

__all__ = ["Format", "Renderer"]
