"""All settings of the recipe. What only it has is without defaults: the values are in ``recipe.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from recipes.mini.settings import LimitSettings, NegativesSettings
from retrieveall.config import ModelConfig, TrainingConfig

__all__ = [
    "BackboneSettings",
    "CorpusSettings",
    "PlainTextSettings",
    "SentencesSettings",
    "Settings",
    "VariationSettings",
]

Language = Literal["en", "es", "fr", "ru", "de", "zh", "ja", "ko"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneSettings(_Strict):
    pieces: int = Field(ge=1000, description="of the vocabulary that stay, beside all of one character")
    tags: int = Field(ge=1, description="tokens for tags: four a label and one")
    seed: int


class CorpusSettings(_Strict):
    """How many sentences are trained on, at most; of PAN-X by language, of the others by ``LANGUAGE/CORPUS``."""

    panx: dict[str, int]
    running: int = Field(ge=0, description="of one corpus where ``of`` does not name it")
    of: dict[str, int]
    validation: int = Field(ge=1, description="held-out sentences of PAN-X and of all other corpora of a language")


class VariationSettings(_Strict):
    """Shares of the sentences that come in another form; the rest come as they are."""

    raw: float = Field(ge=0, le=1, description="without the spaces around punctuation, before anything else")
    swapped: float = Field(ge=0, le=1, description="some mentions replaced by others of the language")
    foreign: float = Field(ge=0, le=1, description="a mention replaced by one of another language")
    titled: float = Field(ge=0, le=1, description="titles before or honorifics after persons")
    capitals: float = Field(ge=0, le=1)
    lower: float = Field(ge=0, le=1)
    headline: float = Field(ge=0, le=1, description="Every Word With A Capital")
    joined: float = Field(ge=0, le=1, description="with one or two other sentences")
    letter: float = Field(ge=0, le=1, description="between greeting and signature of an e-mail")
    marked: float = Field(ge=0, le=1, description="mentions in markup")
    emoji: float = Field(ge=0, le=1)
    wrapped: float = Field(ge=0, le=1, description="with line breaks for spaces")


class SentencesSettings(_Strict):
    """Sentences that are made, of each language."""

    variations: VariationSettings
    templates: int = Field(ge=0, description="out of sentences with slots for names")
    everyday: int = Field(ge=0, description="short sentences with well-known names")
    lists: int = Field(ge=0, description="names as lines, cells and lists")
    phrases: int = Field(ge=0, description="short texts without a name, from lists")
    fragments: int = Field(ge=0, description="short texts without a name, out of sentences")
    plain: int = Field(ge=0, description="whole sentences of plain text without a name")
    repeats: dict[str, int] = Field(description="how often the running text of a language comes; 1 where not named")
    seed: int


class PlainTextSettings(_Strict):
    """Plain text that the tuned encoder labels itself."""

    languages: tuple[Language, ...]
    sentences: int = Field(ge=0, description="of a language, at most")
    most_read: int = Field(ge=0, description="sentences of a language that are looked at")
    least: float = Field(ge=0, le=1, description="probability of every name of a sentence that is kept")
    without_names: float = Field(ge=0, le=1, description="share of the sentences without a name that are kept")
    seed: int


class Settings(_Strict):
    """``recipe.yaml``."""

    languages: tuple[Language, ...] = Field(min_length=1)
    limits: LimitSettings
    backbone: BackboneSettings
    corpora: CorpusSettings
    negatives: NegativesSettings
    sentences: SentencesSettings
    tuning: TrainingConfig
    plain_text: PlainTextSettings
    retrieving_corpora: CorpusSettings
    retrieving_sentences: SentencesSettings
    knowledge_dimension: int = Field(ge=1)
    model: ModelConfig
    tuning_with_knowledge: TrainingConfig
    tuned_share: float = Field(
        gt=0, le=1, description="how far the weights go from those before tuning with knowledge to those after it"
    )
    adapter_sentences: int = Field(ge=1, description="of a language that its adapter is trained on, at most")
    adapters: TrainingConfig
