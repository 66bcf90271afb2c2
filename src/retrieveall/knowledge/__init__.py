"""What may be retrieved: the training sentences near a text, and the known mentions in it."""

from __future__ import annotations

from retrieveall.knowledge.encoder import Encoder, NgramEncoder, SentenceTransformerEncoder, make_encoder
from retrieveall.knowledge.store import KnowledgeBase

__all__ = ["Encoder", "KnowledgeBase", "NgramEncoder", "SentenceTransformerEncoder", "make_encoder"]
