"""Estimates parameters, memory, tokens and time of training and inference by arithmetic; loads no weights."""

from __future__ import annotations

from retrieveall.planning.gpus import GPUS, Gpu, find_gpu
from retrieveall.planning.memory import InferenceMemory, TrainingMemory
from retrieveall.planning.plan import LanguageTokens, Plan, make_plan
from retrieveall.planning.tokens import CodecCounter, EstimatedCounter, RowTokens, TokenCounter, row_tokens

__all__ = [
    "GPUS",
    "CodecCounter",
    "EstimatedCounter",
    "Gpu",
    "InferenceMemory",
    "LanguageTokens",
    "Plan",
    "RowTokens",
    "TokenCounter",
    "TrainingMemory",
    "find_gpu",
    "make_plan",
    "row_tokens",
]
