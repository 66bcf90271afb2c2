"""A pool as jobs: the adapters of one run each, failures reported, only what is missing trained again; then on Ray."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import data_of

from retrieveall.config import TrainingConfig
from retrieveall.errors import EngineError, LanguageError, MissingExtraError
from retrieveall.types import Entity, Sentence

CONFIG = TrainingConfig.model_validate(
    {
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1},
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "validation_sentences": 4,
    }
)


def adapters(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("adapters/*/adapter_model.safetensors"))
    }


class Counting:
    """An executor that says which languages it was given."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked: list[str] = []

    def run(self, jobs: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        self.asked = [job.language for job in jobs]
        yield from self.inner.run(jobs)


@pytest.fixture(scope="module")
def alone(tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_model`` with de trained by ``train``, alone."""
    import shutil

    from retrieveall.training.run import train

    place = tmp_path_factory.mktemp("alone")
    shutil.copytree(tiny_model, place / "model")
    train(place / "model", data_of(corpus, "de"), CONFIG, place / "run", device="cpu", show_bar=False)
    return place / "model"


def test_a_failing_language_costs_no_other_and_only_it_is_trained_again(
    model_copy: Path, corpus: dict[str, list[Sentence]], alone: Path, tmp_path: Path
) -> None:
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.jobs import InProcess, train_pool

    before = adapters(model_copy)
    data = data_of(corpus, "de", "en", "zh")
    bad = Sentence("Paris", (Entity(0, 5, "CITY", "Paris"),), "zh", "1")
    broken = data | {"zh": replace(data["zh"], train=[*corpus["zh"], bad])}
    reported: dict[str, float | None] = {}
    executor = Counting(InProcess())
    first = train_pool(
        model_copy, broken, CONFIG, tmp_path / "run", executor, device="cpu", report=reported.__setitem__
    )
    assert executor.asked == ["de", "en", "zh"]
    assert set(first.scores) == set(reported) == {"de", "en"}
    assert list(first.failures) == ["zh"]
    assert "'CITY'" in first.failures["zh"]
    after = adapters(model_copy)
    assert after["de"] == adapters(alone)["de"], "a job is a run of that language alone"
    assert after["en"] != before["en"]
    assert after["zh"] == before["zh"]
    ModelFolder.open(model_copy)  # the manifest agrees

    second = train_pool(model_copy, data, CONFIG, tmp_path / "run", executor, device="cpu")
    assert executor.asked == ["zh"]
    assert second.kept == ("de", "en")
    assert set(second.scores) == {"de", "en", "zh"}
    assert not second.failures
    assert {name for name, digest in adapters(model_copy).items() if digest != after[name]} == {"zh"}

    changed = CONFIG.model_copy(update={"learning_rate": 0.02})
    third = train_pool(model_copy, data_of(corpus, "de"), changed, tmp_path / "run", executor, device="cpu")
    assert executor.asked == ["de"], "another setting is another run"
    assert "learning_rate 0.01 then, 0.02 now" in third.failures["de"]


def test_an_unknown_language_starts_nothing(
    model_copy: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    from retrieveall.training.jobs import InProcess, train_pool

    executor = Counting(InProcess())
    data = data_of(corpus, "de")
    with pytest.raises(LanguageError, match="add-language"):
        train_pool(model_copy, data | {"xx": data["de"]}, CONFIG, tmp_path / "run", executor)
    assert executor.asked == []
    assert not (tmp_path / "run").exists()


def test_without_ray_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieveall.training.jobs import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[ray\]'"):
        RayExecutor()


@pytest.mark.slow
def test_ray_trains_what_a_run_alone_trains(
    model_copy: Path,
    corpus: dict[str, list[Sentence]],
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default its workers yield to everything else on the machine
    from retrieveall.training.jobs import RayExecutor, train_pool

    data = data_of(corpus, "de", "zh")
    bad = Sentence("Paris", (Entity(0, 5, "CITY", "Paris"),), "zh", "1")
    broken = data | {"zh": replace(data["zh"], train=[bad])}
    try:
        result = train_pool(model_copy, broken, CONFIG, tmp_path / "run", RayExecutor(local_cpus=1), device="cpu")
    except EngineError as error:  # it gives its processes 15 seconds, which a busy machine does not have
        if "did not start" not in str(error):
            raise
        pytest.skip(str(error))
    assert set(result.scores) == {"de"}, result.failures
    assert "'CITY'" in result.failures["zh"]
    assert adapters(model_copy)["de"] == adapters(alone)["de"]
