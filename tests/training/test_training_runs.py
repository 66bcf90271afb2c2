"""Whole runs on a tiny model: what changes, what each language learns, scores and calibration in the cards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import CONFIG, data_of, digests

from retrieveall import RetrieveAll
from retrieveall.types import Entity, Sentence


def test_training_touches_the_trained_languages_only(trained: tuple[Path, dict[str, float]], tiny_model: Path) -> None:
    before, after = digests(tiny_model), digests(trained[0])
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name.split("/")[1] for name in changed if "/" in name} == {"de", "zh"}
    assert {name for name in changed if "/" not in name} == {"manifest.json"}


def test_scores_are_in_the_cards(trained: tuple[Path, dict[str, float]]) -> None:
    from retrieveall.adapters import AdapterPool

    folder, scores = trained
    assert set(scores) == {"de", "zh"}
    pool = AdapterPool(folder)
    card = pool.card("de")
    assert card.scores == {"validation_f1": round(scores["de"], 4)}
    assert card.data["sentences"] == 20
    assert card.alpha == pool.load("de").shape.alpha


def test_the_f1_of_a_card_is_what_evaluation_says(
    trained: tuple[Path, dict[str, float]], corpus: dict[str, list[Sentence]]
) -> None:
    """Training validates through the stages and the decoder that predict, on the adapters as they are saved."""
    from retrieveall.evaluation import evaluate

    folder, scores = trained
    model = RetrieveAll.from_pretrained(folder, device="cpu")
    report = evaluate(model, {language: corpus[language][:4] for language in scores}, language="gold")
    assert {language: report.languages[language].f1 for language in scores} == pytest.approx(scores)


def test_what_a_language_learns_does_not_depend_on_the_labels_of_another(
    tiny_model: Path,
    corpus: dict[str, list[Sentence]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch
    from safetensors.torch import load_file

    from retrieveall.training.run import LanguageData, train

    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(tmp_path / "model")
    swapped = data_of(corpus, "de", "zh")
    # The same lengths, so the same batches; other labels for de only.
    relabelled = [
        Sentence(s.text, tuple(Entity(e.start, e.end, "ORG", e.text) for e in s.entities), s.language, s.id)
        for s in corpus["de"]
    ]
    swapped["de"] = LanguageData(relabelled, corpus["de"][:4])
    config = CONFIG.model_copy(update={"lora": CONFIG.lora.model_copy(update={"dropout": 0.0})})
    train(tmp_path / "model", swapped, config, tmp_path / "run", device="cpu", show_bar=False)
    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(tmp_path / "reference")
    one_line_each_epoch(capsys)
    train(tmp_path / "reference", data_of(corpus, "de", "zh"), config, tmp_path / "run2", device="cpu", show_bar=True)
    one_line_each_epoch(capsys)
    for language, same in (("de", False), ("zh", True)):
        name = f"adapters/{language}/adapter_model.safetensors"
        one, two = (load_file(tmp_path / folder / name) for folder in ("model", "reference"))
        assert all(torch.allclose(one[key], two[key], atol=2e-4) for key in one) is same


def one_line_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is on standard error, as lines, whether there is a bar or not; standard output is for results."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.replace("\r", "\n").splitlines()
    validated = [line for line in lines if re.fullmatch(r".*validation F1 [\d.]+ \(de [\d.]+, zh [\d.]+\)", line)]
    assert len(validated) == 2, "after the first epoch, and at the end"
    assert re.match(r"step \d+ of \d+: ", validated[0])
    assert any(re.fullmatch(r"trained \d+ steps in \d+ s", line) for line in lines)
    assert "{'" not in captured.err


def test_progress_lines() -> None:
    from retrieveall.training.progress import describe

    assert describe({"loss": 0.25, "learning_rate": 1e-3, "epoch": 0.5}, 50, 100) == "step 50 of 100: loss 0.2500"
    assert describe({"total_flos": 1.0}, 50, 100) is None


def test_probabilities_are_calibrated_on_validation(trained: tuple[Path, dict[str, float]]) -> None:
    """The card holds the calibration, and the pipeline applies it."""

    from retrieveall.adapters import AdapterPool
    from retrieveall.data import segment
    from retrieveall.decoders.calibration import UNCALIBRATED, Calibration, calibrate
    from retrieveall.storage import Transaction

    folder = trained[0]
    model = RetrieveAll.from_pretrained(folder, device="cpu")
    text = "Anna wohnt in Köln ."
    card = AdapterPool(folder).card("de")
    distorted = Calibration(0.5, -0.25, -0.5, 0.3, 0.1, -0.05)
    for calibration in (UNCALIBRATED, distorted):
        with Transaction(folder) as transaction:
            changed = replace(card, calibration=calibration)
            transaction.path("adapters/de/adapter_card.json").write_bytes(changed.to_bytes())
        model.reload()
        entities = model.predict(text, language="de")[0].entities
        found = [entity.score for entity in entities]
        if calibration == UNCALIBRATED:
            plain = found
    assert plain, "the test needs an entity"
    words = [len(segment(entity.text)) for entity in entities]
    expected = [calibrate(p or 0.0, n, 5 - n, distorted) for p, n in zip(plain, words, strict=True)]
    assert found == pytest.approx(expected)
