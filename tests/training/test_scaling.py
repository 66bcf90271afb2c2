"""LoRA scaling: the best multiple on validation data goes into the adapter, and a tie keeps the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.config import TrainingConfig
from retrieveall.evaluation.spans import Counts
from retrieveall.training.run import LanguageData, train
from retrieveall.training.validation import LanguageScore, Validation, best_scaling
from retrieveall.types import Sentence


class Fixed:
    """A validation whose F1 are given by language and multiple, in percent."""

    def __init__(self, scores: Mapping[str, Mapping[float, int]]) -> None:
        self._scores = scores
        self.runs: list[float] = []

    def run(self, engine: Any, adapters: Callable[[str], Mapping[str, float]]) -> dict[str, LanguageScore]:
        found = {}
        for language, by_multiple in self._scores.items():
            [(name, multiple)] = adapters(language).items()
            assert name == language
            right = by_multiple[multiple]
            found[language] = LanguageScore(Counts(right, 100, 100))
        self.runs.append(multiple)
        return found


def chosen(scores: Mapping[str, Mapping[float, int]], *multiples: float) -> dict[str, float]:
    fixed: Any = Fixed(scores)
    best = best_scaling(fixed, None, list(scores), multiples)  # type: ignore[arg-type]
    assert fixed.runs == (list(multiples) if len(multiples) > 1 else [])
    return best


def test_a_later_multiple_has_to_be_better() -> None:
    scores = {"de": {1.0: 60, 0.7: 60, 1.4: 61}, "fr": {1.0: 60, 0.7: 60, 1.4: 59}, "zh": {1.0: 0, 0.7: 0, 1.4: 0}}
    assert chosen(scores, 1.0, 0.7, 1.4) == {"de": 1.4, "fr": 1.0, "zh": 1.0}
    assert chosen(scores, 0.7) == dict.fromkeys(scores, 0.7)


def test_the_best_multiple_is_in_weights_and_card(
    model_copy: Path, corpus: dict[str, list[Sentence]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"lora": {"rank": 2, "alpha": 4, "scalings": (1.0, 0.5, 2.5)}, "epochs": 1, "validation_sentences": 0}
    config = TrainingConfig.model_validate(raw)
    data = {language: LanguageData(corpus[language], corpus[language][:6]) for language in ("de", "zh")}
    seen: list[dict[str, float]] = []
    run = Validation.run

    def measured(self: Any, engine: Any, adapters: Any, limit: int | None = None) -> dict[str, LanguageScore]:
        seen.append(dict(adapters("de")))
        found = run(self, engine, adapters, limit)
        if seen[-1] == {"de": 2.5}:
            found["de"].counts = Counts(6, 6, 6)
        return found

    monkeypatch.setattr(Validation, "run", measured)
    scores = train(model_copy, data, config, tmp_path / "run", device="cpu", show_bar=False)
    assert seen == [{"de": 1.0}, {"de": 0.5}, {"de": 2.5}, {"de": 1.0}], "the last one as it is saved"
    pool = AdapterPool(model_copy)
    assert pool.load("de").shape.alpha == pool.card("de").alpha == 10.0
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    from retrieveall.evaluation import evaluate

    report = evaluate(model, {language: corpus[language][:6] for language in data}, language="gold")
    assert {language: report.languages[language].f1 for language in data} == pytest.approx(scores)
