"""Runs in which all languages train one adapter first, of which each then trains a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import CONFIG, data_of, weights

from retrieveall import RetrieveAll
from retrieveall.types import Sentence


def _train_together(
    tiny_model: Path, corpus: dict[str, list[Sentence]], folder: Path, run: Path, *languages: str
) -> Path:
    from retrieveall.training.run import train

    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(folder)
    config = CONFIG.model_copy(update={"together": 0.5})
    train(folder, data_of(corpus, *languages), config, run, device="cpu", show_bar=False)
    return folder


def test_languages_that_learn_together_go_on_with_copies_of_one_adapter(
    tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from retrieveall.training import run

    began: list[tuple[str, list[list[Any]]]] = []
    parts: list[Any] = []
    real = run.fit

    def fit(module: Any, batches: Any, config: Any, folder: Path, *, groups: Any, **options: Any) -> None:
        own = [[p.detach().clone() for p in group["params"]] for group in groups]
        began.append((folder.name, own))
        parts.append(options["part"])
        real(module, batches, config, folder, groups=groups, **options)

    monkeypatch.setattr(run, "fit", fit)
    _train_together(tiny_model, corpus, tmp_path / "model", tmp_path / "run", "de", "zh")
    (first, (shared,)), (second, (de, zh)) = began
    assert (first, second) == ("together", "run")
    assert parts == [(0.0, 0.5), (0.5, 1.0)], "the learning rate does not rise again"
    assert all(torch.equal(a, b) for a, b in zip(de, zh, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(shared, de, strict=True)), "nothing was learnt together"
    model = RetrieveAll.from_pretrained(tmp_path / "model", device="cpu")
    assert {"de", "zh"} <= set(model.languages)
    assert "mul" not in model.languages


def test_a_run_that_was_stopped_after_learning_together_ends_with_the_same_weights(
    tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    whole = _train_together(tiny_model, corpus, tmp_path / "model", tmp_path / "run", "de", "zh")
    for checkpoint in (tmp_path / "run").glob("checkpoint*"):
        shutil.rmtree(checkpoint)
    assert list((tmp_path / "run" / "together").glob("checkpoint*"))
    again = _train_together(tiny_model, corpus, tmp_path / "again", tmp_path / "run", "de", "zh")
    assert weights(again) == weights(whole)


def test_a_language_alone_has_nobody_to_learn_together_with(
    tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieveall.training import run

    parts: list[Any] = []
    real = run.fit

    def fit(*arguments: Any, **options: Any) -> None:
        parts.append(options["part"])
        real(*arguments, **options)

    monkeypatch.setattr(run, "fit", fit)
    _train_together(tiny_model, corpus, tmp_path / "model", tmp_path / "run", "de")
    assert parts == [(0.0, 1.0)]
    assert not (tmp_path / "run" / "together").exists()
