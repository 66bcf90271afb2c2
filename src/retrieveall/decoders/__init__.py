"""Decoders: turn windows into engine requests, and engine results into entities."""

from __future__ import annotations

from retrieveall.decoders.base import Decoder, Gold, Reading, Span, Target, gold_of
from retrieveall.decoders.factory import complete_config, make_decoder

__all__ = ["Decoder", "Gold", "Reading", "Span", "Target", "complete_config", "gold_of", "make_decoder"]
