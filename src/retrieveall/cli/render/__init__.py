"""Predictions as table, JSONL, CoNLL or HTML: strings from plain data. Knows no model, no file and no option."""

from __future__ import annotations

from retrieveall.cli.render.base import Format, Renderer

__all__ = ["Format", "Renderer"]
