"""Settings of a model folder."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from retrieveall.config.base import LabelName, Strict

__all__ = [
    "MAX_CHARACTERS",
    "BackboneConfig",
    "CpuPrecision",
    "DecoderConfig",
    "GenerationConfig",
    "LabelConfig",
    "ModelConfig",
    "PromptConfig",
    "RetrievalConfig",
    "RoutingConfig",
    "Spacing",
    "TaggingConfig",
    "WindowConfig",
]

MAX_CHARACTERS = 10_000_000
"""Maximum length of a text in characters; a longer one is an error rather than hours of work."""

CpuPrecision: TypeAlias = Literal["same", "int8", "bfloat16", "auto"]
"""How linear layers are multiplied on a CPU; see ``BackboneConfig``."""


class BackboneConfig(Strict):
    """The frozen language model: a folder in the model folder, any other path, or a hub id with a revision."""

    path: str = "backbone"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kernel: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="attention implementation; 'auto' picks the fastest on this machine"
    )
    quantization: Literal["none", "4bit"] = Field(
        default="none", description="'4bit': NF4 weights with bitsandbytes, on a GPU"
    )
    cpu_precision: CpuPrecision = Field(
        default="same",
        description="of a float32 backbone's linear layers when predicting on a CPU; 'same': float32; 'auto': bfloat16 "
        "if the processor multiplies it, else int8",
    )


class LabelConfig(Strict):
    """One entity label and its definition for the prompt."""

    name: LabelName
    definition: str = ""


class PromptConfig(Strict):
    """The prompt template and how much knowledge it shows."""

    template: str = "plain.v1"
    max_tokens: int = Field(default=512, ge=16, description="token budget of prompt and input together")
    entity_examples: int = Field(default=12, ge=0)
    context_examples: int = Field(default=2, ge=0)
    chat: bool = Field(default=False, description="wrap the prompt in the tokenizer's chat template")
    without_adapter: bool = Field(
        default=True,
        description="show knowledge also where no adapter runs; false for a backbone that was tuned without any",
    )


class RetrievalConfig(Strict):
    """How knowledge is retrieved."""

    encoder: str = "ngram"
    neighbours: int = Field(default=20, ge=0, description="nearest sentences of all languages that are retrieved")
    near_matches: bool = True
    partial_matches: bool = Field(
        default=False, description="also show words that occur only inside longer known mentions"
    )
    min_similarity: float = Field(
        default=0.0, ge=-1.0, le=1.0, description="minimum cosine similarity of a context example"
    )


class RoutingConfig(Strict):
    """How a text's match with each language becomes adapter weights; see ``retrieveall.routing``.

    ``power`` and ``floor``, keys of earlier versions, are read and dropped: they belong to a vote that large languages
    won.
    """

    dimension: float = Field(
        default=16.0,
        ge=0,
        description="dimensions in which a language's sentences are taken to lie; with more, its size gives it more; "
        "0: letters only",
    )
    weight: float = Field(default=2.0, ge=0, description="of the nearest sentence beside the letters")
    temperature: float = Field(default=8.0, gt=0, description="divides the languages' scores before they become shares")
    winner: float = Field(default=0.6, ge=0, le=1, description="vote share at which one adapter runs alone")
    max_adapters: int = Field(default=3, ge=1)
    unknown: float | None = Field(
        default=1.8,
        description="standard deviations below the usual at which a text is in no known language; null: never",
    )
    unknown_runs: Literal["mixture", "base"] = Field(
        default="mixture",
        description="what a text in no known language runs: the adapters with the most votes, or the backbone alone, "
        "which suits one that was itself tuned for the labels",
    )
    fallback: Literal["mixture", "base"] = Field(
        default="mixture", description="what runs where there is nothing to choose by"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_old_keys(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in ("power", "floor")} if isinstance(value, dict) else value


class WindowConfig(Strict):
    """Long texts are split into windows of words, at sentence ends if possible, else overlapping."""

    words: int = Field(default=128, ge=8, description="maximum words per window")
    joined_words: int = Field(
        default=40, ge=1, description="maximum words of a window of several sentences; a longer sentence is a window"
    )
    overlap: int = Field(
        default=32, ge=0, description="words shared with the next window where the split is not at a sentence end"
    )
    hangul: Literal["whole", "particles"] = Field(
        default="whole",
        description="'particles': Korean particles are words of their own, so that names can end before them",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap * 2 > self.words:
            raise ValueError("overlap must be at most half of words")
        return self


Spacing = Literal["as_is", "always"]
"""``always``: every word is tokenised as if a space preceded it."""


class TaggingConfig(Strict):
    """The tags of all words are read from the logits of tag tokens in one forward pass.

    ``attention="full"`` removes the causal mask; ``"repeat"`` keeps it and tags a second copy of the input.
    ``tag_tokens`` maps each tag to the token whose logit is its score. ``temperature`` divides the logits.
    """

    kind: Literal["tagging"] = "tagging"
    attention: Literal["full", "repeat"] = "repeat"
    spacing: Spacing = "as_is"
    tag_tokens: dict[str, str] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, gt=0)

    reads_logits: ClassVar[bool] = True

    @property
    def full_attention(self) -> bool:
        """Whether the engine must remove the causal mask."""
        return self.attention == "full"

    @property
    def copies(self) -> int:
        """Copies of the input in a request."""
        return 1 if self.full_attention else 2

    def for_encoder(self) -> Self:
        """With full attention, which is all that an encoder has, unless the settings say otherwise."""
        return self if "attention" in self.model_fields_set else self.model_copy(update={"attention": "full"})

    @property
    def longest_answer(self) -> int:
        """Maximum number of tokens that the model writes."""
        return 0


class GenerationConfig(Strict):
    """The model writes its answer, by default under a grammar that allows only valid answers about the text."""

    kind: Literal["generation"] = "generation"
    spacing: Spacing = "as_is"
    constrained: bool = Field(default=True, description="decode under the answer grammar")
    max_answer_tokens: int = Field(default=256, ge=8, description="per window")

    reads_logits: ClassVar[bool] = False
    full_attention: ClassVar[bool] = False
    copies: ClassVar[int] = 1

    def for_encoder(self) -> Self:
        """As it is: an encoder cannot write, which loading it says."""
        return self

    @property
    def longest_answer(self) -> int:
        """Maximum number of tokens that the model writes."""
        return self.max_answer_tokens


def _decoder_kind(value: Any) -> str:
    kind = value.get("kind", "tagging") if isinstance(value, dict) else getattr(value, "kind", "tagging")
    return str(kind)


DecoderConfig: TypeAlias = Annotated[
    Annotated[TaggingConfig, Tag("tagging")] | Annotated[GenerationConfig, Tag("generation")],
    Discriminator(_decoder_kind),
]
"""How model outputs become entities; each decoder has its own settings."""


class ModelConfig(Strict):
    """``retrieveall.yaml`` of a model folder."""

    format_version: Literal[2] = 2
    name: str = "retrieveall"
    backbone: BackboneConfig = BackboneConfig()
    labels: tuple[LabelConfig, ...] = Field(min_length=1, max_length=512)
    prompt: PromptConfig = PromptConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    routing: RoutingConfig = RoutingConfig()
    windows: WindowConfig = WindowConfig()
    decoder: DecoderConfig = TaggingConfig()
    threshold: float = Field(
        default=0.0, ge=0, le=1, description="entities of lower probability are left out, unless predict says otherwise"
    )
    sentence_threshold: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="a sentence whose surest entity has a lower probability has none, unless predict says otherwise",
    )

    @field_validator("format_version", mode="before")
    @classmethod
    def _is_current(cls, value: Any) -> Any:
        if value == 1:
            raise ValueError("expected 2, got 1, a folder of an earlier version of retrieveall; train the model again")
        return value

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        names = self.label_names
        if len(set(names)) != len(names):
            raise ValueError("labels must differ from each other")
        return self

    @model_validator(mode="after")
    def _particles_are_tagged(self) -> Self:
        if self.windows.hangul != "whole" and self.decoder.kind != "tagging":
            raise ValueError("windows.hangul 'particles' needs decoder.kind 'tagging'; set it to 'whole'")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)
