"""The finished cells of a benchmark, and which of them a table or figure is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieveall.benchmark.runner import CELLS, CONFIG, PLAN
from retrieveall.benchmark.saved import read_saved
from retrieveall.benchmark.scores import Comparison, Row, compare, count
from retrieveall.benchmark.settings import BenchmarkConfig
from retrieveall.benchmark.worker import FAILED, RESULT, load_rows
from retrieveall.config import load_yaml
from retrieveall.errors import DataError

__all__ = ["Results", "Run"]


@dataclass(frozen=True)
class Run:
    """A finished cell: its result, and its predictions by language; none where they were not published."""

    method: str
    languages: tuple[str, ...]
    sizes: Mapping[str, int]
    seed: int
    result: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]]

    @property
    def cost(self) -> Mapping[str, Any]:
        cost: Mapping[str, Any] = self.result["cost"]
        return cost


@dataclass(frozen=True)
class Results:
    """All runs of a benchmark. ``missing``: reasons by method and cell, for cells without a result."""

    config: BenchmarkConfig
    runs: Sequence[Run]
    missing: Sequence[tuple[str, str]]

    @classmethod
    def load(cls, out: Path) -> Results:
        """Read the folder of a benchmark.

        Raises:
            DataError: no benchmark was run there.
        """
        if not (out / PLAN).is_file():
            raise DataError(
                f"{out}: expected the results of a benchmark, found none; run: retrieveall benchmark CONFIG"
            )
        config = load_yaml(BenchmarkConfig, out / CONFIG)
        runs, missing = [], []
        for name in read_saved(out / PLAN, "cells")["cells"]:
            folder = out / CELLS / name
            if (folder / RESULT).is_file():
                runs.append(_run(folder))
            else:
                reason = (folder / FAILED).read_text(encoding="utf-8") if (folder / FAILED).is_file() else "not run yet"
                missing.append((name, reason))
        return cls(config, runs, missing)

    @property
    def methods(self) -> list[str]:
        """Names of the methods that have a run, in the order of the settings."""
        have = {run.method for run in self.runs}
        return [method.name for method in self.config.methods if method.name in have]

    @property
    def reference(self) -> str:
        """The method that the others are compared with: the first of the project's own, or the first."""
        return next((name for name in self.methods if self.kind(name) == "retrieveall"), self.methods[0])

    @property
    def baselines(self) -> list[str]:
        """Methods of other kinds than the project's own, with a result in every language."""
        return [name for name in self.methods if self.kind(name) != "retrieveall" and self.is_complete(name)]

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Each method against the reference, on the languages and seeds that both have; see ``scores.compare``."""
        if not self.methods or not self.has_predictions:
            return {}
        first = self.main(self.reference)
        found = {}
        for method in self.methods:
            if method == self.reference:
                continue
            own = self.main(method)
            shared = [language for language in own if language in first]
            if shared:
                found[method] = compare(
                    *(
                        {language: [count(run.rows[language]) for run in runs[language]] for language in shared}
                        for runs in (own, first)
                    )
                )
        return found

    def is_complete(self, method: str) -> bool:
        """Whether the method has a result in every language, so that its mean can stand beside others."""
        return len(self.main(method)) == len(self.languages)

    def kind(self, method: str) -> str:
        return next(each.kind for each in self.config.methods if each.name == method)

    def of(self, method: str) -> list[Run]:
        """All runs of a method."""
        return [run for run in self.runs if run.method == method]

    @property
    def languages(self) -> tuple[str, ...]:
        return self.config.data.languages

    @property
    def has_predictions(self) -> bool:
        """Whether all runs have their predictions, from which errors, significance and reliability are computed."""
        return all(run.rows for run in self.runs)

    def main(self, method: str) -> dict[str, list[Run]]:
        """The runs of a method with the data of ``data.train`` and all its languages together, by language."""
        own = self.of(method)
        found: dict[str, list[Run]] = {}
        for language in self.languages:
            having = [run for run in own if language in run.languages]
            most = max((len(run.languages) for run in having), default=0)
            chosen = [run for run in having if len(run.languages) == most and self._is_main(run)]
            if chosen:
                found[language] = chosen
        return found

    def _is_main(self, run: Run) -> bool:
        return all(size == self.main_size(language) for language, size in run.sizes.items())

    def main_size(self, language: str) -> int:
        """Training sentences of a language where nothing else is said."""
        sizes = {run.sizes[language] for run in self.runs if language in run.sizes}
        wanted = self.config.data.size(language)
        return max((size for size in sizes if wanted is None or size <= wanted), default=max(sizes, default=0))

    def counted_once(self, runs: Iterable[Run]) -> list[Run]:
        """The runs without repeats: a joint one stands under each of its languages."""
        return list({id(run): run for run in runs}.values())


def _run(folder: Path) -> Run:
    result = read_saved(folder / RESULT, "method", "languages", "sizes", "seed", "cost")
    return Run(
        result["method"]["name"],
        tuple(result["languages"]),
        result["sizes"],
        result["seed"],
        result,
        load_rows(folder),
    )
