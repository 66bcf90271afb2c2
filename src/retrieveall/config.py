"""Strict, typed settings of a model folder and of a training run, stored as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from retrieveall.errors import ConfigError, LanguageError

__all__ = [
    "ALL_LINEAR",
    "MAX_CHARACTERS",
    "BackboneConfig",
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

MAX_CHARACTERS = 10_000_000
"""Maximum length of a text in characters; a longer one is an error rather than hours of work."""

ALL_LINEAR = "all-linear"
"""Of ``lora.target_modules``: every linear layer of the backbone's blocks, whatever the architecture calls them."""

_LANGUAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff/\\]{1,64}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]|encoder)")


def check_language(language: str) -> str:
    """Return ``language`` if it is safe as an identifier and a folder name.

    Raises:
        LanguageError: unless it is 1 to 64 ASCII letters, digits, ``_`` and ``-``, with a letter or digit at both ends.
    """
    if not isinstance(language, str):
        raise LanguageError(f"expected a language identifier such as 'de', got {type(language).__name__}")
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
    """Base class of all settings: immutable, and unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


CpuPrecision: TypeAlias = Literal["same", "int8", "bfloat16", "auto"]
"""How linear layers are multiplied on a CPU; see ``BackboneConfig``."""


class BackboneConfig(_Strict):
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


class LabelConfig(_Strict):
    """One entity label and its definition for the prompt."""

    name: LabelName
    definition: str = ""


class PromptConfig(_Strict):
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


class RetrievalConfig(_Strict):
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


class RoutingConfig(_Strict):
    """How a text's match with each language becomes adapter weights; see ``retrieveall.routing``.

    ``power`` and ``floor``, keys of earlier versions, are read and dropped: they belong to a vote that large languages
    won.
    """

    dimension: float = Field(
        default=16.0, ge=0, description="weight of the nearest sentence beside the letters; 0: letters only"
    )
    temperature: float = Field(default=8.0, gt=0, description="divides the languages' scores before they become shares")
    winner: float = Field(default=0.6, ge=0, le=1, description="vote share at which one adapter runs alone")
    max_adapters: int = Field(default=3, ge=1)
    unknown: float | None = Field(
        default=1.8,
        description="standard deviations below the usual at which a text is in no known language; null: never",
    )
    fallback: Literal["mixture", "base"] = Field(
        default="mixture", description="what runs where there is nothing to choose by"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_old_keys(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in ("power", "floor")} if isinstance(value, dict) else value


class WindowConfig(_Strict):
    """Long texts are split into overlapping windows of words."""

    words: int = Field(default=128, ge=8, description="maximum words per window")
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


class TaggingConfig(_Strict):
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


class GenerationConfig(_Strict):
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


_KINDS = ("tagging", "generation")


def _decoder_kind(value: Any) -> str:
    kind = value.get("kind", "tagging") if isinstance(value, dict) else getattr(value, "kind", "tagging")
    return str(kind)


DecoderConfig: TypeAlias = Annotated[
    Annotated[TaggingConfig, Tag("tagging")] | Annotated[GenerationConfig, Tag("generation")],
    Discriminator(_decoder_kind),
]
"""How model outputs become entities; each decoder has its own settings."""


class ModelConfig(_Strict):
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


class LoraSettings(_Strict):
    """Shape of a new adapter, named as in PEFT, and the candidate LoRA scalings."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    use_rslora: bool = False
    target_modules: tuple[str, ...] = Field(
        default=(ALL_LINEAR,), description="names of linear layers; 'all-linear': those of all blocks, as PEFT has it"
    )
    scalings: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 0.7, 0.4, 1.4),
        min_length=1,
        description="LoRA scalings tried on validation data, as multiples of alpha; ties go to the earlier one",
    )


class OptimisationConfig(_Strict):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_accumulation: int = Field(default=1, ge=1)
    weight_average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights, which is saved; 0: off",
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="no", description="'auto': bf16 if the hardware supports it"
    )
    compile: bool = Field(default=False, description="use torch.compile: minutes to start, then faster steps")
    seed: int = 13
    checkpoint_minutes: float = Field(default=5.0, gt=0)


class KnowledgeShares(_Strict):
    """Relative shares of training prompts with no knowledge, the entity level only, and both levels."""

    none: float = Field(default=0.1, ge=0)
    entity: float = Field(default=0.1, ge=0)
    both: float = Field(default=0.8, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.none + self.entity + self.both <= 0:
            raise ValueError("expected at least one share above 0")
        return self


class TrainingConfig(OptimisationConfig):
    """One training run: adapters over a frozen backbone, or all weights of a backbone."""

    lora: LoraSettings = LoraSettings()
    epochs: float = Field(default=3.0, gt=0)
    steps: int | None = Field(default=None, ge=1, description="number of steps, instead of epochs")
    together: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the run in which all languages train one adapter, of which each then trains a copy; "
        "the learning rate goes on falling",
    )
    batch_size: int = Field(default=8, ge=1, description="rows per batch and process")
    row_length: int | None = Field(
        default=None, ge=8, description="tokens per packed row; null: the model's longest request"
    )
    packing: bool = Field(
        default=True, description="pack several sentences into a row; otherwise one per row, padded to the longest"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    knowledge: KnowledgeShares = KnowledgeShares()
    word_dropout: float = Field(default=0.0, ge=0, lt=1, description="share of words that are masked")
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on embeddings and on the outputs of attention and feed-forward layers",
    )
    embedding_rate: float = Field(
        default=0.5,
        ge=0,
        description="learning rate multiplier of the embeddings when all weights are trained; 0: they stay as they are",
    )
    frozen_layers: int = Field(
        default=0, ge=0, description="lowest layers that stay as they are when all weights are trained; saves time"
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations: less memory, more time")
    shard_backbone: bool = Field(
        default=False,
        description="shard the frozen backbone across processes: less memory, more time",
    )
    validation_sentences: int = Field(default=500, ge=0, description="per language, for F1 during training")
    calibration_sentences: int = Field(
        default=2000, ge=0, description="per language, for LoRA scaling, calibration and the F1 of the adapter card"
    )

    def identity(self, *, changed: bool = False) -> dict[str, Any]:
        """The settings that the trained weights depend on, as plain data; with ``changed`` without those at default."""
        return self.model_dump(mode="json", exclude={"shard_backbone", "checkpoint_minutes"}, exclude_defaults=changed)


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
    except OSError as error:
        raise ConfigError(f"{path}: expected a YAML file, got {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: expected a YAML file, {_why_not_yaml(error)}") from None
    return parse_config(kind, raw, str(path))


def _why_not_yaml(error: Exception) -> str:
    """In one line; the parser's own are many, and say little of a binary file."""
    if isinstance(error, (UnicodeDecodeError, yaml.reader.ReaderError)):
        return "got a binary file, or text that is not UTF-8"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        cut = any(end in f"{error.problem}" for end in ("<stream end>", "end of stream", "\\x00"))
        fault = "which is truncated" if cut else "got something else"
        return f"{fault}: {error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    return f"got something else: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"


def parse_config(kind: type[T], raw: Any, where: str) -> T:
    """Validate plain data as ``kind``; ``where`` names its origin in the error."""
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        found = "a text" if isinstance(raw, str) else "a list" if isinstance(raw, list) else type(raw).__name__
        raise ConfigError(f"{where}: expected settings, one `key: value` a line, got {found}; check the file")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_fault(kind, error)}") from None


def _fault(kind: type[BaseModel], error: ValidationError) -> str:
    """The first invalid key and the reason."""
    first = error.errors(include_url=False)[0]
    key = _key(first["loc"])
    if first["type"] == "union_tag_invalid":
        return f"{key}.kind: expected {' or '.join(_KINDS)}, got {str(first['ctx']['tag'])[:80]!r}"
    if first["type"] == "extra_forbidden":
        meant = _meant(kind, key)
        hint = f"did you mean {meant}?" if meant else "check its spelling and its place"
        return f"{key}: expected a known key, got one that does not exist; {hint}"
    return f"{key or 'the document'}: {str(first['msg']).removeprefix('Value error, ')}"


def _meant(kind: type[BaseModel], key: str) -> str | None:
    """The existing key most like ``key``: alike in spelling, or of the same name in another place."""
    keys = list(_keys(kind))
    name = key.rpartition(".")[2]
    elsewhere = [each for each in keys if each.rpartition(".")[2] == name]
    return next(iter(elsewhere or get_close_matches(key, keys, 1, 0.75)), None)


def _keys(kind: Any, before: str = "") -> Iterator[str]:
    """The dotted keys of a settings class, with those of the classes inside."""
    for name, found in getattr(kind, "model_fields", {}).items():
        yield f"{before}{name}"
        for inner in (found.annotation, *get_args(found.annotation)):
            for each in (inner, *get_args(inner)):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    yield from _keys(each, f"{before}{name}.")


def _key(location: tuple[int | str, ...]) -> str:
    """The key as the user wrote it: pydantic puts the decoder's kind between ``decoder`` and its keys."""
    parts = [
        part
        for before, part in zip((None, *location), location, strict=False)
        if before != "decoder" or part not in _KINDS
    ]
    return ".".join(map(str, parts))


def dump_yaml(config: BaseModel, exclude: set[str] | None = None) -> str:
    """The configuration as YAML, keys in the order of the class."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude=exclude), sort_keys=False, allow_unicode=True)
