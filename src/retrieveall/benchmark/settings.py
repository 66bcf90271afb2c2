"""The settings of a benchmark: data, backbone, seeds, and the methods to compare. An unknown key is an error."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from retrieveall.backbones import Preset, find_preset, preset_names
from retrieveall.config import BackboneConfig, LabelConfig, TrainingConfig, check_language, load_yaml, parse_config
from retrieveall.errors import ConfigError
from retrieveall.tokens.tokenizer import is_hub_id

__all__ = [
    "BenchmarkConfig",
    "CrfMethod",
    "DataSettings",
    "GlinerMethod",
    "Levels",
    "Method",
    "PeerMethod",
    "PromptNerMethod",
    "RetrieveAllMethod",
    "SpacyMethod",
    "TokenClassificationMethod",
    "TrainedMethod",
    "UnmaskedLmMethod",
    "load_benchmark",
]

Levels: TypeAlias = Literal["none", "entity", "context", "both"]
"""Which levels of knowledge a prompt shows."""

_DEFAULT = "default"
_CONFIGURATIONS = ("config.json", "gliner_config.json")
"""Files that every folder with a model of Hugging Face or of GLiNER has one of."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataSettings(_Strict):
    """The corpus. ``path``: a folder with ``{language}/train.tsv`` and so on, or ``hf://owner/name``.

    ``train`` is the number of training sentences of a language: one number for all, or one for each language with
    ``default`` for the rest; null takes all. Sentences are drawn in an order that depends on ``seed`` alone, so that a
    smaller number is always a part of a larger one. ``knowledge`` is the number that a method may retrieve from, those
    that it is trained on among them; null takes no others.
    """

    path: str
    languages: tuple[str, ...] = Field(min_length=1)
    train: int | dict[str, int | None] | None = None
    knowledge: int | Literal["all"] | None = None
    validation: int | None = Field(default=500, ge=0)
    test: int | None = Field(default=None, ge=1)
    labels: dict[str, str] = Field(default_factory=dict, description="label names with definitions; empty: those found")
    test_split: Literal["test", "validation"] = Field(
        default="test", description="'validation', for a corpus without test labels: no sentences are left to validate"
    )
    seed: int = 13

    @field_validator("knowledge")
    @classmethod
    def _is_knowledge(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError("data.knowledge: expected at least 1 sentence, 'all' or null")
        return value

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("languages must differ from each other")
        return tuple(map(check_language, value))

    @model_validator(mode="after")
    def _sizes_are_known(self) -> Self:
        sizes = self.train if isinstance(self.train, dict) else {_DEFAULT: self.train}
        unknown = sorted(set(sizes) - {*self.languages, _DEFAULT})
        if unknown:
            raise ValueError(f"data.train: expected languages among {', '.join(self.languages)}, got {unknown[0]!r}")
        if any(size is not None and size < 1 for size in sizes.values()):
            raise ValueError("data.train: expected at least 1 sentence")
        return self

    def size(self, language: str) -> int | None:
        """Training sentences of a language; None: all."""
        if isinstance(self.train, dict):
            return self.train.get(language, self.train.get(_DEFAULT))
        return self.train

    def label_configs(self) -> tuple[LabelConfig, ...]:
        return tuple(LabelConfig(name=name, definition=text) for name, text in self.labels.items())


class _Method(_Strict):
    """What all methods have: a name for the report, seeds of its own, a backbone of its own."""

    name: str = Field(min_length=1, max_length=80)
    seeds: tuple[int, ...] | None = Field(default=None, description="instead of those of the benchmark")
    languages: tuple[str, ...] | None = Field(default=None, description="run on these only")
    backbone: str | None = Field(default=None, description="a name of ``backbones``, a folder or a hub id")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(default=None, description="likewise")

    @property
    def joint(self) -> bool:
        """Whether one run serves all languages."""
        return False

    @property
    def needs_backbone(self) -> bool:
        return True

    @property
    def is_prepared(self) -> bool:
        """Whether something comes before its training that takes long and needs no GPU."""
        return False

    def training_identity(self) -> dict[str, Any]:
        """The settings that the trained model depends on; methods that agree in them share one training."""
        return self.model_dump(mode="json", exclude={"name", "seeds", "languages"})


class TrainedMethod(_Method):
    """``training``: settings of the training run, see ``TrainingConfig``, over those of the benchmark."""

    training: dict[str, Any] = Field(default_factory=dict)

    def training_config(self, common: dict[str, Any], seed: int) -> TrainingConfig:
        """The settings of one run.

        Raises:
            ConfigError: an unknown key or a wrong value.
        """
        raw = {**common, **self.training}
        if isinstance(common.get("lora"), dict) and isinstance(self.training.get("lora"), dict):
            raw["lora"] = {**common["lora"], **self.training["lora"]}
        return parse_config(TrainingConfig, {**raw, "seed": seed}, f"training of {self.name}")


class RetrieveAllMethod(TrainedMethod):
    """The method of this project and its ablations.

    ``train_levels`` and ``levels`` are what prompts show in training and at inference; ``train_k`` and ``k`` the number
    of context examples in each. Settings that count at inference only (``levels``, ``k``, ``routing``) share one
    trained model. ``knowledge: train`` retrieves from the training sentences alone, whatever ``data.knowledge`` says.
    ``model`` holds further settings of ``retrieveall.yaml``.
    """

    kind: Literal["retrieveall"]
    decoder: Literal["tagging", "generation"] = "tagging"
    adapters: Literal["own", "shared"] = "own"
    routing: Literal["vote", "told", "top1", "language_id"] = "vote"
    train_levels: Levels = "both"
    levels: Levels | None = Field(default=None, description="null: as in training")
    examples: Literal["similar", "random"] = "similar"
    knowledge: Literal["data", "train"] = "data"
    k: int = Field(default=2, ge=0, le=100)
    train_k: int | None = Field(default=None, ge=0, le=100, description="null: as k")
    model: dict[str, Any] = Field(default_factory=dict)

    @property
    def joint(self) -> bool:
        return True

    @property
    def is_prepared(self) -> bool:
        return True

    def training_identity(self) -> dict[str, Any]:
        found = super().training_identity()
        k = self.k if self.train_k is None else self.train_k
        found["train_k"] = k if self.train_levels in ("context", "both") else 0
        return {key: value for key, value in found.items() if key not in ("levels", "k", "routing")}


class _Classifier(TrainedMethod):
    """A linear layer over the states of a backbone, at the first token of each word."""

    weights: Literal["lora", "all"] = "lora"
    max_tokens: int = Field(default=256, ge=16, description="longer sentences run in pieces")


class TokenClassificationMethod(_Classifier):
    """An encoder with a linear layer, as XLM-R is tuned for entities: all weights or LoRA."""

    kind: Literal["token_classification"]
    adapters: Literal["shared", "own"] = "shared"

    @property
    def joint(self) -> bool:
        return self.adapters == "shared"


class UnmaskedLmMethod(_Classifier):
    """LS-unLLaMA: a causal language model without its causal mask, LoRA, and a linear layer."""

    kind: Literal["unmasked_lm"]
    adapters: Literal["shared", "own"] = "shared"

    @property
    def joint(self) -> bool:
        return self.adapters == "shared"


class PromptNerMethod(_Method):
    """Training-free prompting with definitions and examples; see ``retrieveall.benchmark.methods.promptner``."""

    kind: Literal["promptner"]
    answers: Literal["constrained", "free"] = "constrained"
    examples: int = Field(default=4, ge=0, le=50)
    max_tokens: int = Field(default=1024, ge=64)
    max_answer_tokens: int = Field(default=128, ge=8)
    chat: bool | None = Field(default=None, description="null: where the tokenizer has a chat template")


class CrfMethod(_Method):
    """A linear-chain CRF of each language with the usual features (python-crfsuite)."""

    kind: Literal["crf"]
    c1: float = Field(default=0.1, ge=0)
    c2: float = Field(default=0.01, ge=0)
    iterations: int = Field(default=100, ge=1)

    @property
    def needs_backbone(self) -> bool:
        return False


class PeerMethod(_Method):
    """Another library in an environment of its own, made by ``python -m retrieveall.benchmark.peers``."""

    environment: Path

    def options(self) -> dict[str, Any]:
        """What its program is told beside the sentences."""
        return self.model_dump(mode="json", exclude={*_Method.model_fields, "kind", "environment"})


class SpacyMethod(PeerMethod):
    """spaCy's entity recogniser, trained from scratch for each language on the words of this project."""

    kind: Literal["spacy"]
    epochs: int = Field(default=20, ge=1)

    @property
    def needs_backbone(self) -> bool:
        return False


class GlinerMethod(PeerMethod):
    """GLiNER, tuned on all languages together, with the training settings of its own ``config_finetune.yaml``.

    ``backbone`` is a GLiNER model. With ``start: encoder`` it is an encoder, under which GLiNER's layers are new.
    ``names`` are the words that the model reads for the labels, such as ``{PER: person}``.
    """

    kind: Literal["gliner"]
    backbone: str | None = "urchade/gliner_multi-v2.1"
    start: Literal["gliner", "encoder"] = "gliner"
    names: dict[str, str] = Field(default_factory=dict)
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0, description="of the encoder")
    others_learning_rate: float = Field(default=5e-5, gt=0, description="of the layers over it")
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps")
    max_width: int = Field(default=12, ge=1, description="words of the longest mention; start: encoder only")
    threshold: float = Field(default=0.5, ge=0, le=1)

    @property
    def joint(self) -> bool:
        return True


Method: TypeAlias = Annotated[
    RetrieveAllMethod
    | TokenClassificationMethod
    | UnmaskedLmMethod
    | PromptNerMethod
    | CrfMethod
    | SpacyMethod
    | GlinerMethod,
    Field(discriminator="kind"),
]


class BenchmarkConfig(_Strict):
    """One benchmark.

    ``sizes`` repeats everything at these numbers of training sentences, in the languages ``small`` (all, if empty).
    ``sets`` says which languages are trained together: ``all``; ``grow``: the first one, the first two, and so on;
    ``alone``: each for itself.
    """

    name: str = Field(pattern=r"[A-Za-z0-9][\w.-]{0,63}")
    data: DataSettings
    preset: str | None = Field(default=None, description="a backbone's name, such as qwen2.5-7b, for its settings")
    backbone: str | None = Field(default=None, description="a folder or a hub id; null: that of the preset")
    backbones: dict[str, str | None] = Field(default_factory=dict, description="further ones, by name")
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    seeds: tuple[int, ...] = Field(default=(13,), min_length=1)
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()
    small: tuple[str, ...] = ()
    sets: tuple[Literal["all", "grow", "alone"], ...] = Field(default=("all",), min_length=1)
    training: dict[str, Any] = Field(default_factory=dict, description="common to all methods that are trained")
    at_least: int = Field(
        default=0, ge=0, description="a language with fewer training sentences is passed over several times an epoch"
    )
    keep_models: bool = Field(default=False, description="keep the trained models, under models/")
    threads: int = Field(default=1, ge=1, description="CPU threads of a cell")
    methods: tuple[Method, ...] = Field(min_length=1)

    @field_validator("preset")
    @classmethod
    def _is_preset(cls, value: str | None) -> str | None:
        if value is not None:
            _find_preset(value)
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [method.name for method in self.methods]
        if len(set(names)) != len(names):
            raise ValueError("methods: names must differ from each other")
        for where, languages in (("small", self.small), *((m.name, m.languages or ()) for m in self.methods)):
            unknown = sorted(set(languages) - set(self.data.languages))
            if unknown:
                raise ValueError(
                    f"{where}: expected languages among {', '.join(self.data.languages)}, got {unknown[0]!r}"
                )
        return self

    def backbone_of(self, method: _Method) -> BackboneConfig | None:
        """The backbone of a method; None for one that has none.

        Raises:
            ConfigError: it needs one, and none is given, or what is given can be none; names the key.
        """
        if not method.needs_backbone:
            return None
        preset = self._preset()
        given = {} if preset is None else dict(preset.model.get("backbone", {}))
        name = method.backbone
        path = self.backbones.get(name, name) if name else self.backbone or given.get("path")
        key = f"backbones.{name}" if name in self.backbones else "backbone"
        if path is None:
            raise ConfigError(f"{method.name}: expected a backbone, got none; give one with --set {key}=DIR_OR_HUB_ID")
        if not _is_backbone(path):
            raise ConfigError(
                f"{method.name}: expected {key} as a Hugging Face folder, with config.json, or a hub id such as "
                f"Qwen/Qwen2.5-7B, got {path[:200]!r}; check the path"
            )
        if Path(path).is_dir():
            path = str(Path(path).resolve())
        own = {"path": path, "revision": None if method.backbone else self.revision}
        dtype = method.dtype or self.dtype
        return BackboneConfig(**given | own | ({} if dtype is None else {"dtype": dtype}))

    def check_backbone(self) -> None:
        """Check the backbone that methods share: without it, most of a benchmark would fail, cell by cell.

        Raises:
            ConfigError: it is given, and can be none.
        """
        sharing = [method for method in self.methods if method.needs_backbone and method.backbone is None]
        if self.backbone is not None and sharing:
            self.backbone_of(sharing[0])

    def common_training(self, method: _Method) -> dict[str, Any]:
        """The training settings of the preset, then those of the benchmark, as plain data."""
        preset = self._preset()
        if preset is None or not isinstance(method, RetrieveAllMethod):
            return dict(self.training)
        return {**preset.training_settings(method.decoder), **self.training}

    def model_settings(self, method: RetrieveAllMethod) -> dict[str, Any]:
        """The preset's part of a ``retrieveall.yaml``, as plain data."""
        preset = self._preset()
        return {} if preset is None else preset.model_settings(method.decoder)

    def _preset(self) -> Preset | None:
        return None if self.preset is None else _find_preset(self.preset)


@cache  # parsed once, and not for each cell
def _find_preset(name: str) -> Preset:
    found = find_preset(name)
    if found is None:
        raise ConfigError(
            f"preset: expected one of {', '.join(preset_names())} or a file of that form, got {name[:80]!r}"
        )
    return found


def _is_backbone(path: str) -> bool:
    """Whether this may be a backbone: a folder with a configuration, or what looks like a hub id."""
    folder = Path(path)
    if folder.is_dir():
        return any((folder / name).is_file() for name in _CONFIGURATIONS)
    return is_hub_id(path)


_STEP = re.compile(r"\d+")


def load_benchmark(path: Path, changes: dict[str, Any] | None = None) -> BenchmarkConfig:
    """Read a benchmark's YAML; ``changes`` are ``{"data.test": 100, "methods.0.k": 3}``.

    Raises:
        ConfigError: no such file, an unknown key, a wrong value.
    """

    class Anything(BaseModel):
        model_config = ConfigDict(extra="allow")

    raw = load_yaml(Anything, path).model_dump()
    if not {"data", "methods"} & raw.keys():
        got = ", ".join(map(str, raw))[:80] or "none"
        raise ConfigError(
            f"{path}: expected a benchmark, with the keys data and methods, got {got}; see docs/benchmark.md"
        )
    for key, value in (changes or {}).items():
        _put(raw, key.split("."), value, key)
    return parse_config(BenchmarkConfig, raw, str(path))


def _put(raw: Any, keys: list[str], value: Any, whole: str) -> None:
    for number, key in enumerate(keys):
        last = number == len(keys) - 1
        if isinstance(raw, list):
            if not _STEP.fullmatch(key) or int(key) >= len(raw):
                raise ConfigError(f"--set {whole}: expected a number from 0 to {len(raw) - 1}, got {key!r}")
            if last:
                raw[int(key)] = value
            raw = raw[int(key)]
        elif last:
            raw[key] = value
        else:
            if not isinstance(raw.get(key), (dict, list)):
                raw[key] = {}
            raw = raw[key]
