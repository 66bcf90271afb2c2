"""What training and running a backbone will take, by arithmetic: parameters, memory, tokens, time. Loads no weights."""

from __future__ import annotations

from retrieveall.planning.gpus import GPUS, Gpu, find_gpu
from retrieveall.planning.memory import InferenceMemory, TrainingMemory
from retrieveall.planning.plan import LanguageTokens, Plan, make_plan
from retrieveall.planning.tokens import EstimatedCounter, RowTokens, TokenCounter, local_counter, row_tokens

__all__ = [
    "GPUS",
    "EstimatedCounter",
    "Gpu",
    "InferenceMemory",
    "LanguageTokens",
    "Plan",
    "RowTokens",
    "TokenCounter",
    "TrainingMemory",
    "find_gpu",
    "local_counter",
    "make_plan",
    "row_tokens",
]
