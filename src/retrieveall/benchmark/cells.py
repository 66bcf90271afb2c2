"""What a benchmark has to run: its cells, each with a key that changes with anything that its result depends on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from retrieveall.benchmark.corpora import Corpus
from retrieveall.benchmark.settings import BenchmarkConfig, Method, RetrieveAllMethod, TrainedMethod
from retrieveall.config import BackboneConfig, LabelConfig
from retrieveall.errors import ConfigError
from retrieveall.storage import sha256_file

__all__ = ["Cell", "backbone_fingerprint", "cells_of", "slug"]

_FORMAT = 1  # of results, and of how methods run
_ELSEWHERE = frozenset({"backbone", "dtype", "environment"})  # in the key by what they hold, or not at all


@dataclass(frozen=True)
class Cell:
    """One run: a method, the languages that it trains and tests on, their training sentences, a seed.

    Attributes:
        key: changes with settings, data, labels, backbone and seed.
        training_key: the same without what counts at inference only; cells with an equal one share a trained model.
        sizes: the number of training sentences of each language.
    """

    method: Method
    languages: tuple[str, ...]
    sizes: Mapping[str, int]
    seed: int
    key: str
    training_key: str

    @property
    def folder(self) -> str:
        """Name of the cell's folder: readable, and unique by its key."""
        name = slug(self.method.name)
        languages = "-".join(self.languages) if len(self.languages) <= 3 else f"{len(self.languages)}-languages"
        return f"{name}.{languages}.{max(self.sizes.values())}.s{self.seed}.{self.key[:12]}"

    @property
    def title(self) -> str:
        sizes = sorted(set(self.sizes.values()))
        shown = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        return f"{self.method.name}, {' '.join(self.languages)}, {shown} sentences, seed {self.seed}"


def slug(name: str) -> str:
    """The name of a method as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "method"


@dataclass(frozen=True)
class Setting:
    """Languages that are trained together, and the number of training sentences of each; None: all."""

    languages: tuple[str, ...]
    sizes: Mapping[str, int | None]


def settings_of(config: BenchmarkConfig) -> list[Setting]:
    """All combinations of ``sets`` and ``sizes``, without repeats."""
    found: list[Setting] = []
    for languages in _sets(config):
        for size in (None, *config.sizes):
            small = config.small or config.data.languages
            sizes = {each: size if size is not None and each in small else config.data.size(each) for each in languages}
            setting = Setting(languages, sizes)
            if setting not in found:
                found.append(setting)
    return found


def _sets(config: BenchmarkConfig) -> Iterator[tuple[str, ...]]:
    languages = config.data.languages
    for name in config.sets:
        if name == "all":
            yield languages
        elif name == "grow":
            yield from (languages[:number] for number in range(1, len(languages) + 1))
        else:
            yield from ((language,) for language in languages)


def cells_of(config: BenchmarkConfig, corpora: Mapping[str, Corpus], labels: Sequence[LabelConfig]) -> list[Cell]:
    """The cells of a benchmark, each once, in the order of the methods.

    Raises:
        ConfigError: wrong training settings.
    """
    found: dict[str, Cell] = {}
    digests = _Digests(corpora)
    for method in config.methods:
        for setting in settings_of(config):
            chosen = tuple(each for each in setting.languages if method.languages is None or each in method.languages)
            groups = [chosen] if method.joint else [(each,) for each in chosen]
            for languages in filter(None, groups):
                for seed in method.seeds or config.seeds:
                    cell = _cell(config, method, languages, setting.sizes, seed, digests, labels)
                    found.setdefault(f"{method.name} {cell.key}", cell)
    return list(found.values())


def _cell(
    config: BenchmarkConfig,
    method: Method,
    languages: tuple[str, ...],
    sizes: Mapping[str, int | None],
    seed: int,
    corpora: _Digests,
    labels: Sequence[LabelConfig],
) -> Cell:
    backbone = _backbone(config, method)

    if isinstance(method, TrainedMethod):
        method.training_config(config.common_training(method), seed)  # to fail here and not in a cell
    common: dict[str, Any] = {
        "format": _FORMAT,
        "labels": [label.model_dump() for label in labels],
        "seed": seed,
        "backbone": None if backbone is None else [backbone_fingerprint(backbone), backbone.dtype],
        "training": [config.common_training(method), config.at_least] if isinstance(method, TrainedMethod) else [],
        "preset": config.model_settings(method) if isinstance(method, RetrieveAllMethod) else {},
    }
    digests = {language: corpora.of(language, sizes[language]) for language in languages}
    train = {language: {k: v for k, v in each.items() if k != "test"} for language, each in digests.items()}
    settings = method.model_dump(mode="json", exclude={*_ELSEWHERE, "name", "seeds", "languages"})
    identity = {key: value for key, value in method.training_identity().items() if key not in _ELSEWHERE}
    return Cell(
        method,
        languages,
        {language: corpora.size(language, sizes[language]) for language in languages},
        seed,
        _hash({**common, "method": settings, "data": digests}),
        _hash({**common, "method": identity, "data": train}),
    )


def _backbone(config: BenchmarkConfig, method: Method) -> BackboneConfig | None:
    """None also where it is missing: the cell says so when it runs, and the other methods are not held up."""
    try:
        return config.backbone_of(method)
    except ConfigError:
        return None


class _Digests:
    """Digests and sizes of training sets of any size, each computed once."""

    def __init__(self, corpora: Mapping[str, Corpus]) -> None:
        self._corpora = corpora
        self._found: dict[tuple[str, int], dict[str, str]] = {}

    def size(self, language: str, size: int | None) -> int:
        return len(self._corpora[language].first(size).train)

    def of(self, language: str, size: int | None) -> dict[str, str]:
        key = language, self.size(language, size)
        if key not in self._found:
            self._found[key] = self._corpora[language].first(size).digests()
        return self._found[key]


@lru_cache
def backbone_fingerprint(backbone: BackboneConfig) -> str:
    """A hash of a local backbone's files; a hub id with its revision as it is."""
    folder = Path(backbone.path)
    if not folder.is_dir():
        return f"{backbone.path}@{backbone.revision or 'main'}"
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors", ".model", ".txt")]
    return _hash([[path.name, sha256_file(path)] for path in files])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
