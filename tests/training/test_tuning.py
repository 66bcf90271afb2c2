"""Tuning all weights of a backbone: it learns, goes on after a stop, and never touches a model that has adapters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import digests

from retrieveall import RetrieveAll
from retrieveall.config import TrainingConfig, dump_yaml
from retrieveall.engines.local.backbone import load_backbone
from retrieveall.errors import ConfigError, DataError, ModelFolderError
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction
from retrieveall.training.loop import LoopTrainer
from retrieveall.training.run import LanguageData, train
from retrieveall.training.tuning import tune_backbone
from retrieveall.types import Sentence

CONFIG = TrainingConfig.model_validate(
    {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.003,
        "word_dropout": 0.1,
        "dropout": 0.1,
        "weight_decay": 0.01,
        "weight_average": 0.9,
        "checkpoint_minutes": 10.0,
        "validation_sentences": 10,
    }
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = ModelFolder.open(folder)
    return dict(load_backbone(model.config, model.path).state_dict())


@pytest.fixture
def bare(model_copy: Path) -> Path:
    """A model folder without adapters."""
    with Transaction(model_copy) as transaction:
        transaction.delete("adapters")
    return model_copy


@pytest.fixture
def data(corpus: dict[str, list[Sentence]]) -> dict[str, LanguageData]:
    return {language: LanguageData(corpus[language], corpus[language][:10]) for language in ("de", "zh")}


def tune(folder: Path, data: dict[str, LanguageData], run: Path, **settings: Any) -> dict[str, float]:
    config = CONFIG.model_copy(update=settings)
    return tune_backbone(folder, data, config, run, device="cpu", show_bar=False)


def test_a_tuned_backbone_finds_names_without_an_adapter(
    bare: Path, data: dict[str, LanguageData], corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    before = digests(bare)
    scores = tune(bare, data, tmp_path / "run", epochs=15.0, batch_size=2, learning_rate=0.01, dropout=0.0)
    assert min(scores.values()) > 0.8, "twenty sentences that differ in a number are learnt by heart"
    after = digests(bare)
    assert {name for name in after if after[name] != before.get(name)} == {
        "backbone/model.safetensors",
        "manifest.json",
    }
    assert set(before) <= set(after)
    model = RetrieveAll.from_pretrained(bare, device="cpu", allow_no_adapters=True)
    sentence = corpus["de"][0]
    [prediction] = model.predict([sentence.text])
    assert prediction.route.adapters == {}
    assert [(e.start, e.end, e.label) for e in prediction.entities] == [
        (e.start, e.end, e.label) for e in sentence.entities
    ]
    # Adapters are trained on it as on any other.
    adapters = TrainingConfig.model_validate({"lora": {"rank": 2, "alpha": 4}, "epochs": 1, "validation_sentences": 0})
    assert train(bare, data, adapters, tmp_path / "adapters", device="cpu", show_bar=False)["de"] > 0.8


def test_a_run_that_was_stopped_ends_with_the_same_weights(
    bare: Path, data: dict[str, LanguageData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"steps": 6, "checkpoint_minutes": 1e-9, "validation_sentences": 0}
    other = Path(shutil.copytree(bare, tmp_path / "other"))
    tune(other, data, tmp_path / "whole", **settings)
    step, done = LoopTrainer.training_step, []

    def stopped(self: Any, *args: Any, **kwargs: Any) -> Any:
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    before = digests(bare)
    with monkeypatch.context() as patch:
        patch.setattr(LoopTrainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            tune(bare, data, tmp_path / "run", **settings)
    assert digests(bare) == before
    tune(bare, data, tmp_path / "run", **settings)
    found, expected = weights(bare), weights(other)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_run_that_is_complete_is_not_done_again(
    bare: Path, data: dict[str, LanguageData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backbone is another one than it began with, which otherwise would be another run."""
    scores = tune(bare, data, tmp_path / "run", steps=2)
    after = digests(bare)
    monkeypatch.setattr(LoopTrainer, "training_step", None)
    assert tune(bare, data, tmp_path / "run", steps=2) == scores
    assert digests(bare) == after
    with pytest.raises(DataError, match="differs in training settings: steps"):
        tune(bare, data, tmp_path / "run", steps=3)


def test_embeddings_have_a_rate_of_their_own(bare: Path, data: dict[str, LanguageData], tmp_path: Path) -> None:
    before = weights(bare)
    tune(bare, data, tmp_path / "run", steps=2, embedding_rate=1e-12, weight_average=0.0)
    after = weights(bare)
    embeddings = {name for name in after if "embed_tokens" in name or "lm_head" in name}
    assert embeddings
    for name, tensor in after.items():
        assert torch.allclose(tensor, before[name], atol=1e-8) is (name in embeddings), name


def test_frozen_layers_stay_as_they_are(bare: Path, data: dict[str, LanguageData], tmp_path: Path) -> None:
    before = weights(bare)
    tune(bare, data, tmp_path / "run", steps=2, embedding_rate=0.0, frozen_layers=1, weight_average=0.0)
    after = weights(bare)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(".layers.1." in name for name in changed)
    assert not any(".layers.0." in name or "embed_tokens" in name for name in changed)
    with pytest.raises(ConfigError, match="frozen_layers: expected less than the 2 layers of the backbone, got 2"):
        tune(bare, data, tmp_path / "other", steps=2, frozen_layers=2)


def test_a_model_with_adapters_is_refused(model_copy: Path, data: dict[str, LanguageData], tmp_path: Path) -> None:
    before = digests(model_copy)
    with pytest.raises(ModelFolderError, match="has de, en, zh"):
        tune(model_copy, data, tmp_path / "run")
    assert digests(model_copy) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("backbone", "settings", "named"),
    [
        ({"path": "elsewhere"}, {}, "backbone.path is"),
        ({"quantization": "4bit"}, {}, "full precision"),
        ({}, {"shard_backbone": True}, "full precision"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    bare: Path,
    data: dict[str, LanguageData],
    tmp_path: Path,
    backbone: dict[str, str],
    settings: dict[str, bool],
    named: str,
) -> None:
    if "path" in backbone:
        shutil.copytree(bare / "backbone", tmp_path / "elsewhere")
        backbone = {"path": str(tmp_path / "elsewhere")}
    config = ModelFolder.open(bare).config
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update=backbone)})
    with Transaction(bare) as transaction:
        transaction.path("retrieveall.yaml").write_text(dump_yaml(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        tune(bare, data, tmp_path / "run", **settings)
