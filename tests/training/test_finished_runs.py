"""A complete run that is asked for again is known by what its adapters were trained on, with what, and in what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import data_of

from retrieveall.adapters import AdapterPool
from retrieveall.config import TrainingConfig
from retrieveall.storage import Transaction
from retrieveall.types import Sentence

CONFIG = TrainingConfig.model_validate({"steps": 2, "batch_size": 4, "lora": {"rank": 2, "scalings": [1]}})


@pytest.mark.parametrize("apart", [False, True])
def test_only_the_very_run_is_complete(
    model_copy: Path, corpus: dict[str, list[Sentence]], tmp_path: Path, apart: bool
) -> None:
    """Whether languages were trained together or as jobs of their own, which gives other weights."""
    from retrieveall.training.jobs import InProcess, train_pool
    from retrieveall.training.run import already_trained, train

    data = data_of(corpus, "de", "en")
    assert already_trained(model_copy, data, CONFIG, apart=apart) is None, "trained by nobody knows what"
    if apart:
        scores = train_pool(model_copy, data, CONFIG, tmp_path / "run", InProcess(), device="cpu").scores
    else:
        scores = train(model_copy, data, CONFIG, tmp_path / "run", device="cpu", show_bar=False)
    found = already_trained(model_copy, data, CONFIG, apart=apart)
    assert found == {language: pytest.approx(f1, abs=1e-4) for language, f1 in scores.items()}
    assert already_trained(model_copy, data, CONFIG.model_copy(update={"checkpoint_minutes": 1.0}), apart=apart)

    assert already_trained(model_copy, data, CONFIG, apart=not apart) is None
    assert already_trained(model_copy, data, CONFIG.model_copy(update={"seed": 1}), apart=apart) is None
    assert already_trained(model_copy, data_of(corpus, "de", "en", "zh"), CONFIG, apart=apart) is None
    for changed in (
        replace(data["de"], train=data["de"].train[1:]),
        replace(data["de"], validation=data["de"].validation[1:]),
    ):
        assert already_trained(model_copy, data | {"de": changed}, CONFIG, apart=apart) is None
    with Transaction(model_copy) as transaction:
        settings = (model_copy / "retrieveall.yaml").read_text("utf-8")
        transaction.path("retrieveall.yaml").write_text(f"{settings}\n# changed\n", encoding="utf-8")
    assert already_trained(model_copy, data, CONFIG, apart=apart) is None, "adapters of another model"


def test_a_language_was_added_whatever_became_of_the_others(
    model_copy: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.run import add_language, already_added

    data = data_of(corpus, "de")["de"]
    assert not already_added(model_copy, "nds", data, CONFIG)
    add_language(model_copy, "nds", data, CONFIG, tmp_path / "run", device="cpu", show_bar=False)
    assert {"run", "model"} <= set(AdapterPool(model_copy).card("nds").data)
    assert already_added(model_copy, "nds", data, CONFIG)
    ModelFolder.open(model_copy).remove_language("zh")
    assert already_added(model_copy, "nds", data, CONFIG)
    assert not already_added(model_copy, "nds", data, CONFIG.model_copy(update={"seed": 1}))
    assert not already_added(model_copy, "nds", replace(data, train=data.train[1:]), CONFIG)
    assert not already_added(model_copy, "de", data, CONFIG), "nobody knows how it was trained"
