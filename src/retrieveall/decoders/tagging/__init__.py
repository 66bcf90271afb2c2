"""The tagging decoder: BIOES tags from the logits of tag tokens, Viterbi decoding, exact span probabilities."""

from __future__ import annotations

from retrieveall.decoders.tagging.decoder import TaggingDecoder
from retrieveall.decoders.tagging.lattice import ScoredSpan, decode_batch
from retrieveall.decoders.tagging.tags import OUTSIDE, TagSet

__all__ = ["OUTSIDE", "ScoredSpan", "TagSet", "TaggingDecoder", "decode_batch"]
