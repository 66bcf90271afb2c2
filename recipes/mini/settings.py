"""The settings of the recipe's steps, without defaults: the values are in ``recipe.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieveall.config import OptimisationConfig, TrainingConfig

__all__ = [
    "BackboneSettings",
    "MaskedWordsSettings",
    "NegativesSettings",
    "PositivesSettings",
    "SentencesSettings",
    "TeacherSettings",
    "TextSettings",
    "TokenizerSettings",
    "TuningSettings",
    "VectorSettings",
]

Language = Literal["en", "es", "fr", "ru", "de", "zh", "ja", "ko"]
"""Those with rules that find sentences with and without names in plain text, see ``signs.py``."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Strict):
    """How much of the corpora is read, of each language; null for all."""

    sentences: int | None = Field(ge=1)
    validation: int | None = Field(ge=1)
    lines: int | None = Field(ge=1)


class TokenizerSettings(_Strict):
    size: int = Field(ge=400, le=65_536)
    share: float = Field(gt=0, le=1, description="of the plain text's lines")
    panx_weight: int = Field(ge=1)
    seed: int


class VectorSettings(_Strict):
    dimension: int = Field(ge=1)
    epochs: int = Field(ge=1)
    seed: int


class TextSettings(_Strict):
    """The text of masked words."""

    share: float = Field(gt=0, le=1, description="of the plain text's lines")
    longest_line: int = Field(ge=1, description="characters")
    longest: int = Field(ge=1, description="tokens of one sequence")
    seed: int


class BackboneSettings(_Strict):
    """A Llama, its embeddings scaled to a root mean square of ``embedding_scale`` at first."""

    width: int
    inner: int
    layers: int
    heads: int
    embedding_scale: float = Field(gt=0)


class MaskedWordsSettings(OptimisationConfig):
    hidden: float = Field(gt=0, lt=1, description="share of the tokens that are predicted")
    masked: float = Field(ge=0, le=1, description="share of those that the model does not see")
    candidates: int = Field(ge=1, description="sampled tokens a batch")
    batch_size: int = Field(ge=1, description="rows of a batch")
    row_length: int = Field(ge=8, description="tokens of a row")
    steps: int = Field(ge=1)
    embedding_rate: float = Field(gt=0, description="times the learning rate")


class TuningSettings(TrainingConfig):
    """A round over all weights of the backbone."""

    context_examples: int = Field(ge=0, description="of a prompt in this round, whatever the model has")


class NegativesSettings(_Strict):
    """Sentences without a name."""

    sentences: int = Field(ge=0, description="of a language, at most")
    held_out: int = Field(ge=0)
    per_line: dict[str, int] = Field(description="sentences taken of one line; 1 where nothing is said")
    statistics_lines: int = Field(ge=1, description="that words and pairs of characters are counted in")
    seed: int


class PositivesSettings(_Strict):
    """Sentences of plain text whose names are all known."""

    sentences: int = Field(ge=0, description="of a language, at most")
    per_line: dict[str, int] = Field(description="sentences taken of one line; 3 where nothing is said")
    per_name: int = Field(ge=1, description="sentences of one name; else a few countries would be most of them")
    statistics_lines: int = Field(ge=1)
    seed: int


class TeacherSettings(_Strict):
    """Plain text that the teacher labels."""

    sentences: int = Field(ge=1, description="of a language, that it reads")
    least: float = Field(ge=0, le=1, description="score of every name of a sentence that is kept")
    seed: int


class SentencesSettings(_Strict):
    """How the training sentences of a language are put together; shares are of the sentences of PAN-X."""

    with_names: float = Field(ge=0, description="share of plain text with names, each sentence repeated if need be")
    without_names: float = Field(ge=0, description="share of sentences without a name, likewise")
    repeats: int = Field(ge=1, description="of one sentence of plain text, at most")
    swapped: float = Field(ge=0, le=1, description="share of sentences that come once more, with mentions swapped")
    mentions: float = Field(ge=0, le=1, description="share of the mentions that are swapped there")
    seed: int
