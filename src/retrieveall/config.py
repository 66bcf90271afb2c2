"""The configuration of a model folder and of a training run: strict, typed, and the same as YAML on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from retrieveall.errors import ConfigError, LanguageError

__all__ = [
    "MAX_CHARACTERS",
    "BackboneConfig",
    "DecoderConfig",
    "LabelConfig",
    "LoraSettings",
    "ModelConfig",
    "PromptConfig",
    "RetrievalConfig",
    "RoutingConfig",
    "TrainingConfig",
    "check_language",
    "dump_yaml",
    "load_yaml",
    "parse_config",
]

MAX_CHARACTERS = 10_000_000
"""Characters of the longest text; a longer one is an error rather than hours of work."""

_LANGUAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff/\\]{1,64}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]|encoder)")


def check_language(language: str) -> str:
    """Return ``language`` if it is safe as an identifier and a folder name.

    Raises:
        LanguageError: for anything but 1 to 64 ASCII letters, digits, ``_`` and ``-``, not at the ends.
    """
    if not _LANGUAGE.fullmatch(language) or _RESERVED.fullmatch(language):
        raise LanguageError(
            f"a language identifier is 1 to 64 letters, digits, '-' or '_' such as 'de' or 'zh-Hant', "
            f"got {language[:80]!r}; rename it"
        )
    return language


def _check_label(label: str) -> str:
    if not _LABEL.fullmatch(label) or label in {"O", ".", ".."}:
        raise ValueError(
            "a label is 1 to 64 characters without blanks, control characters or slashes and not 'O', "
            f"got {label[:80]!r}"
        )
    return label


LabelName = Annotated[str, AfterValidator(_check_label)]


class _Strict(BaseModel):
    """An unknown key is an error, and a value is never silently converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class BackboneConfig(_Strict):
    """The frozen language model: a folder inside the model folder, any other path, or a hub id with a revision."""

    path: str = "backbone"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kernel: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="implementation of attention; 'auto' takes what is fastest here"
    )
    quantization: Literal["none", "4bit"] = Field(
        default="none", description="'4bit': NF4 weights through bitsandbytes, on a GPU"
    )


class LabelConfig(_Strict):
    """One entity label and, for the prompt, what it means."""

    name: LabelName
    definition: str = ""


class PromptConfig(_Strict):
    """Which template, and how much knowledge goes into it."""

    template: str = "plain.v1"
    max_tokens: int = Field(default=512, ge=16, description="budget of prompt and input together")
    entity_examples: int = Field(default=12, ge=0)
    context_examples: int = Field(default=2, ge=0)
    chat: bool = Field(default=False, description="wrap the prompt into the tokenizer's chat template")


class RetrievalConfig(_Strict):
    """How knowledge is found."""

    encoder: str = "ngram"
    neighbours: int = Field(default=20, ge=0, description="nearest sentences that vote for adapters")
    near_matches: bool = True
    partial_matches: bool = Field(
        default=False, description="also show words that no known mention covers, but that stand in some"
    )
    min_similarity: float = Field(
        default=0.0, ge=-1.0, le=1.0, description="a neighbour less similar is no context example"
    )


class RoutingConfig(_Strict):
    """How votes become adapter weights; see ``retrieveall.routing``."""

    power: float = Field(default=4.0, gt=0, description="a neighbour's vote is its similarity to this power")
    winner: float = Field(default=0.6, ge=0, le=1, description="share of the vote from which one adapter runs alone")
    max_adapters: int = Field(default=3, ge=1)
    floor: float = Field(default=0.1, ge=-1, le=1, description="best similarity below which the input is unknown")
    fallback: Literal["mixture", "base"] = "mixture"


class DecoderConfig(_Strict):
    """How the model's states become entities.

    ``kind="tagging"`` reads the tags of the words in one pass; ``"generation"`` lets the model write its answer, by
    default under a grammar that keeps it well-formed and true to the text. For tags, ``attention="full"`` lifts the
    causal mask over prompt and input; ``"repeat"`` keeps it and tags a second copy of the input. ``tag_tokens`` maps
    each tag to the token whose logit is its score. ``temperature`` divides the logits and is fitted on validation data.
    """

    kind: Literal["tagging", "generation"] = "tagging"
    attention: Literal["full", "repeat"] = "repeat"
    spacing: Literal["as_is", "always"] = Field(
        default="as_is", description="'always': every word is tokenised as if a space preceded it"
    )
    tag_tokens: dict[str, str] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, gt=0)
    window_words: int = Field(default=128, ge=8, description="longest stretch of words that runs at once")
    window_overlap: int = Field(default=32, ge=0)
    constrained: bool = Field(default=True, description="generation only: a grammar limits every step")
    max_answer_tokens: int = Field(default=256, ge=8, description="generation only: of one window")

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.window_overlap * 2 > self.window_words:
            raise ValueError("window_overlap must be at most half of window_words")
        return self


class ModelConfig(_Strict):
    """``retrieveall.yaml`` of a model folder."""

    format_version: Literal[1] = 1
    name: str = "retrieveall"
    backbone: BackboneConfig = BackboneConfig()
    labels: tuple[LabelConfig, ...] = Field(min_length=1, max_length=512)
    prompt: PromptConfig = PromptConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    routing: RoutingConfig = RoutingConfig()
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        names = self.label_names
        if len(set(names)) != len(names):
            raise ValueError("labels must differ from each other")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


class LoraSettings(_Strict):
    """Shape of a new adapter, in PEFT's terms."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    use_rslora: bool = False
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class TrainingConfig(_Strict):
    """One training run over a frozen backbone."""

    lora: LoraSettings = LoraSettings()
    epochs: float = Field(default=3.0, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    knowledge_dropout: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of sentences trained without entity level, and likewise context level",
    )
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = Field(default=False, description="recompute activations: less memory, more time")
    shard_backbone: bool = Field(
        default=False,
        description="of several processes, each holds a part of the frozen backbone: less memory, more time",
    )
    seed: int = 13
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    validation_sentences: int = Field(default=500, ge=0, description="per language, for F1 during training")

    def identity(self) -> str:
        """What the trained adapters depend on, as YAML: all but where the backbone lies."""
        return dump_yaml(self, leave_out={"shard_backbone"})


T = TypeVar("T", bound=BaseModel)


def load_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file as ``kind``.

    Raises:
        ConfigError: missing or malformed file, unknown key, wrong value; names the file and the key.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"expected a configuration file at {path}, found none; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is not valid YAML: {detail}") from None
    return parse_config(kind, raw, str(path))


def parse_config(kind: type[T], raw: Any, where: str) -> T:
    """Validate plain data as ``kind``; ``where`` names its origin in the error."""
    if raw is None:
        raw = {}
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(f"{where}: {key}: {first['msg']}") from None


def dump_yaml(config: BaseModel, leave_out: set[str] | None = None) -> str:
    """The configuration as YAML, keys in the order of the class."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude=leave_out), sort_keys=False, allow_unicode=True)
