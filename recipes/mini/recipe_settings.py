"""All settings of the recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from recipes.base.settings import CorpusSettings
from recipes.base.settings import SentencesSettings as MadeSettings
from recipes.mini.settings import (
    BackboneSettings,
    Language,
    LimitSettings,
    MaskedWordsSettings,
    NegativesSettings,
    PositivesSettings,
    SentencesSettings,
    TeacherSettings,
    TextSettings,
    TokenizerSettings,
    TuningSettings,
    VectorSettings,
)
from retrieveall.config import ModelConfig, TrainingConfig

__all__ = ["Settings"]


class Settings(BaseModel):
    """``recipe.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    languages: tuple[Language, ...] = Field(min_length=1)
    limits: LimitSettings
    tokenizer: TokenizerSettings
    vectors: VectorSettings
    text: TextSettings
    backbone: BackboneSettings
    masked_words: MaskedWordsSettings
    knowledge_dimension: int = Field(ge=1, description="of the knowledge of the first rounds, which is PAN-X")
    negatives: NegativesSettings
    positives: PositivesSettings
    sentences: SentencesSettings
    model: ModelConfig
    tuning: tuple[TuningSettings, ...]
    teacher: TeacherSettings
    taught_corpora: CorpusSettings
    taught_sentences: MadeSettings
    taught_tuning: TrainingConfig
    taught_share: float = Field(gt=0, le=1, description="of the way from the weights before that tuning to those after")
    adapters: TrainingConfig
