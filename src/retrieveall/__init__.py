"""RetrieveAll: named entity recognition in many languages with one language model.

from retrieveall import RetrieveAll
model = RetrieveAll.from_pretrained("base")
model.predict("Ada Lovelace was born in London.")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrieveall.errors import RetrieveAllError
from retrieveall.types import (
    AnswerFaults,
    Entity,
    Knowledge,
    KnownEntity,
    Neighbour,
    Prediction,
    Route,
    Sentence,
    Word,
    to_dicts,
    to_rows,
)

if TYPE_CHECKING:
    from retrieveall.config import ModelConfig, TrainingConfig
    from retrieveall.pipeline import RetrieveAll

__version__ = "0.1.0"

__all__ = [
    "AnswerFaults",
    "Entity",
    "Knowledge",
    "KnownEntity",
    "ModelConfig",
    "Neighbour",
    "Prediction",
    "RetrieveAll",
    "RetrieveAllError",
    "Route",
    "Sentence",
    "TrainingConfig",
    "Word",
    "__version__",
    "to_dicts",
    "to_rows",
]


def __getattr__(name: str) -> Any:
    # Importing only the types or the version should not load numpy and pydantic.
    if name == "RetrieveAll":
        from retrieveall.pipeline import RetrieveAll

        return RetrieveAll
    if name in ("ModelConfig", "TrainingConfig"):
        from retrieveall import config

        return getattr(config, name)
    raise AttributeError(f"module 'retrieveall' has no attribute {name!r}")
