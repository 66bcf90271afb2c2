"""Engines run the model: in this process, with vLLM, or on a server. Importing this package loads none of them."""

from __future__ import annotations

from retrieveall.engines.base import Engine, Failure, ScoreRequest, Scores, WriteRequest, Written
from retrieveall.engines.factory import EngineName, open_engine

__all__ = ["Engine", "EngineName", "Failure", "ScoreRequest", "Scores", "WriteRequest", "Written", "open_engine"]
