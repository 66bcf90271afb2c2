"""Strict, typed settings of a model folder and of a training run, stored as YAML."""

from __future__ import annotations

from retrieveall.config.base import check_language
from retrieveall.config.files import dump_yaml, load_yaml, parse_config
from retrieveall.config.model import (
    MAX_CHARACTERS,
    BackboneConfig,
    CpuPrecision,
    DecoderConfig,
    GenerationConfig,
    LabelConfig,
    ModelConfig,
    PromptConfig,
    RetrievalConfig,
    RoutingConfig,
    Spacing,
    TaggingConfig,
    WindowConfig,
)
from retrieveall.config.training import (
    ALL_LINEAR,
    KnowledgeShares,
    LoraSettings,
    OptimisationConfig,
    TrainingConfig,
)

__all__ = [
    "ALL_LINEAR",
    "MAX_CHARACTERS",
    "BackboneConfig",
    "CpuPrecision",
    "DecoderConfig",
    "GenerationConfig",
    "KnowledgeShares",
    "LabelConfig",
    "LoraSettings",
    "ModelConfig",
    "OptimisationConfig",
    "PromptConfig",
    "RetrievalConfig",
    "RoutingConfig",
    "Spacing",
    "TaggingConfig",
    "TrainingConfig",
    "WindowConfig",
    "check_language",
    "dump_yaml",
    "load_yaml",
    "parse_config",
]
