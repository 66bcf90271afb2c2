"""Two processes train as one: the same losses, the same adapters, also after a kill; only the first one writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retrieveall.config import TrainingConfig, dump_yaml
from retrieveall.data import write_jsonl
from retrieveall.errors import ConfigError
from retrieveall.types import Sentence

LANGUAGES = ("de", "en", "zh")
EPOCHS, GLOBAL_BATCH, ACCUMULATION = 2, 4, 2
# So many that one of an epoch's batches has a single row, of which the second process gets nothing.
SENTENCES = 18


def training(batch_size: int, dropout: float = 0.0, **settings: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "lora": {"rank": 2, "alpha": 4, "dropout": dropout},
            "epochs": EPOCHS,
            "batch_size": batch_size,
            "gradient_accumulation": ACCUMULATION,
            "learning_rate": 0.003,
            "word_dropout": 0.1,
            "label_smoothing": 0.1,
            "checkpoint_minutes": 1e-6,
            "validation_sentences": 5,
            **settings,
        }
    )


@dataclass(frozen=True)
class Runs:
    """Model folders and run folders by the name of the run, and what each process said."""

    place: Path
    codes: dict[str, list[int]]

    def losses(self, name: str) -> list[list[float]]:
        return [json.loads(path.read_text()) for path in sorted((self.place / name / "said").glob("*.json"))]

    def held(self, name: str) -> list[int]:
        """How many numbers of the backbone each process held after its last step."""
        return [json.loads(path.read_text()) for path in sorted((self.place / name / "said").glob("*.held"))]

    def found(self, name: str) -> list[list[Any]]:
        """What was found in the last validation: probability, words, words around, correct; in order."""
        found: list[list[Any]] = json.loads((self.place / name / "said" / "0.found").read_text())
        return found

    def said(self, name: str, rank: int) -> str:
        return (self.place / name / "said" / f"{rank}.out").read_text()

    def tensors(self, name: str) -> dict[str, Any]:
        """The float32 adapters after the last step."""
        from safetensors.numpy import load_file

        folders = (self.place / name / "run").glob("checkpoint-*")
        last = max(folders, key=lambda path: int(path.name.rpartition("-")[2]))
        return load_file(last / "weights.safetensors")


@pytest.fixture(scope="module")
def runs(
    build_model: Callable[..., Path], corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    """One process with the global batch; two with half of it each; two with dropout, whole, and killed and resumed; two
    that each hold half of the backbone, and a model that writes answers, in one process and in two of that kind.
    """
    import shutil

    place = tmp_path_factory.mktemp("parallel")
    model = build_model(place / "model", attention="full")
    writer = build_model(place / "writer", attention="full", decoder="generation", architecture="qwen2")
    for language in LANGUAGES:
        (place / "data" / language).mkdir(parents=True)
        write_jsonl(corpus[language][:SENTENCES], place / "data" / language / "train.jsonl")
        write_jsonl(corpus[language][:5], place / "data" / language / "validation.jsonl")
    half = GLOBAL_BATCH // 2
    planned = {
        "one": (1, training(GLOBAL_BATCH), None),
        "two": (2, training(half), None),
        "sharded": (2, training(half, shard_backbone=True, gradient_checkpointing=True), None),
        "writes": (1, training(GLOBAL_BATCH, validation_sentences=3), None),
        "sharded writes": (2, training(half, validation_sentences=3, shard_backbone=True), None),
        "sharded killed": (2, training(half, shard_backbone=True, gradient_checkpointing=True), 5),
        "dropout": (2, training(half, 0.2), None),
        "killed": (2, training(half, 0.2), 5),
    }
    jobs: list[dict[str, Any]] = []
    for name, (processes, config, kill_after) in planned.items():
        folder = place / name
        shutil.copytree(writer if "writes" in name else model, folder / "model")
        (folder / "training.yaml").write_text(dump_yaml(config))
        arguments = ["train", str(place / "data"), "--out", str(folder / "model"), "--run", str(folder / "run")]
        arguments += ["--config", str(folder / "training.yaml")]
        job = {
            "processes": processes,
            "arguments": arguments,
            "losses": str(folder / "said"),
            "run": str(folder / "run"),
        }
        jobs.append(job | {"name": name, "kill_after": kill_after})
        if kill_after:
            jobs.append({**jobs[-1], "name": name.replace("killed", "resumed"), "kill_after": None})
    (place / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("ranks.py")), str(place / "jobs.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codes = json.loads(done.stdout.splitlines()[-1])
    return Runs(place, {job["name"]: code for job, code in zip(jobs, codes, strict=True)})


def test_all_processes_end_well(runs: Runs) -> None:
    for name in set(runs.codes) - {"killed", "sharded killed"}:
        folder = name.replace("resumed", "killed")
        assert set(runs.codes[name]) == {0}, runs.said(folder, 0)[-1500:]


def test_two_processes_have_the_losses_of_one_with_the_global_batch(runs: Runs) -> None:
    (one,) = runs.losses("one")
    two = runs.losses("two")
    assert len(one) == len(two[0]) == len(two[1]) > 10
    assert two[0] != two[1], "each has rows of its own"
    means = [sum(parts) / 2 for parts in zip(*two, strict=True)]
    assert means == pytest.approx(one, rel=1e-5)
    assert 0.0 in two[1], "one batch has no row for the second process"


def test_two_processes_end_with_the_adapters_of_one(runs: Runs) -> None:
    import numpy as np

    one, two = runs.tensors("one"), runs.tensors("two")
    assert one.keys() == two.keys()
    moved = max(float(np.abs(tensor).max()) for name, tensor in one.items() if ".B_" in name)
    assert moved > 1e-3, "the run must have learnt something"
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=1e-3, atol=2e-6, err_msg=name)


def test_two_processes_measure_what_one_measures(runs: Runs) -> None:
    assert runs.said("one", 0).splitlines()[-4:] == runs.said("two", 0).replace("/two/", "/one/").splitlines()[-4:]


def test_only_the_main_process_reports(runs: Runs) -> None:
    assert "validation F1" in runs.said("two", 0)
    assert "validation F1" not in runs.said("two", 1)
    assert "trained" not in runs.said("two", 1)


def test_a_killed_run_of_two_ends_with_the_same_adapters(runs: Runs) -> None:
    assert runs.codes["killed"] == [-9, -9]
    whole, resumed = runs.tensors("dropout"), runs.tensors("killed")
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)
    steps = [len(losses) for losses in runs.losses("killed")]
    assert max(steps) < len(runs.losses("dropout")[0]), "it must have gone on, not begun again"


# -- each process holds a part of the backbone ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "whole"), [("sharded", "one"), ("sharded writes", "writes")])
def test_processes_that_share_a_backbone_train_as_one_that_holds_it(runs: Runs, name: str, whole: str) -> None:
    import numpy as np

    (one,), parts = runs.losses(whole), runs.losses(name)
    assert [sum(each) / 2 for each in zip(*parts, strict=True)] == pytest.approx(one, rel=1e-5)
    expected, got = runs.tensors(whole), runs.tensors(name)
    assert expected.keys() == got.keys()
    for key, tensor in expected.items():
        np.testing.assert_allclose(got[key], tensor, rtol=1e-3, atol=2e-6, err_msg=key)
    # A path with a blank is quoted.
    reported = runs.said(name, 0).replace(f"/{name}/", f"/{whole}/").replace("'", "").splitlines()[-4:]
    assert reported == runs.said(whole, 0).replace("'", "").splitlines()[-4:]
    found, same = runs.found(whole), runs.found(name)
    assert found
    assert [each[1:] for each in same] == [each[1:] for each in found]
    assert [each[0] for each in same] == pytest.approx([each[0] for each in found], abs=1e-4)


@pytest.mark.parametrize(("name", "whole"), [("sharded", "one"), ("sharded writes", "writes")])
def test_each_process_holds_half_of_the_backbone(runs: Runs, name: str, whole: str) -> None:
    (total,), parts = runs.held(whole), runs.held(name)
    assert sum(parts) == total
    assert max(parts) < 0.51 * total


def test_a_killed_run_over_a_shared_backbone_ends_with_the_same_adapters(runs: Runs) -> None:
    assert runs.codes["sharded killed"] == [-9, -9]
    whole, resumed = runs.tensors("sharded"), runs.tensors("sharded killed")
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)
    assert max(map(len, runs.losses("sharded killed"))) < len(runs.losses("sharded")[0])


@pytest.mark.parametrize(("bits", "count", "named"), [("4bit", 2, "quantization"), ("none", 1, "accelerate launch")])
def test_what_cannot_be_shared_is_refused(bits: str, count: int, named: str) -> None:
    from retrieveall.config import BackboneConfig
    from retrieveall.training.parallel import Processes
    from retrieveall.training.shards import check_sharding

    with pytest.raises(ConfigError, match=named):
        check_sharding(BackboneConfig.model_validate({"quantization": bits}), Processes(0, count))


def test_a_shared_backbone_makes_no_other_run() -> None:
    """So that a run folder of one kind can go on as one of the other."""
    assert training(4).identity() == training(4, shard_backbone=True).identity() != training(5).identity()


def test_fsdp_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's own would cut the adapters into parts, and validation would never end."""
    from retrieveall.training.parallel import Processes

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launch with an fsdp_config sets it
    with pytest.raises(ConfigError, match=r"ddp\.yaml.*shard_backbone"):
        Processes.join("cpu")


def test_dropout_differs_between_processes(runs: Runs) -> None:
    """With the same masks in both, the sum of the two would be that of one process with masks of half the size."""
    assert runs.losses("dropout") != runs.losses("two")
