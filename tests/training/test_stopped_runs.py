"""Runs that are killed, meet a full disk or find the folder of another run: they go on, or say why not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import CONFIG, data_of, digests, french, weights

from retrieveall import RetrieveAll
from retrieveall.data import write_jsonl
from retrieveall.errors import DataError, ModelFolderError
from retrieveall.types import Sentence

Command = Callable[..., int]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """``command(*arguments, killed="before_the_commit")``: the exit code of ``retrieveall`` with the arguments, killed
    at a moment of ``commands.py``.
    """
    errors = tmp_path_factory.mktemp("commands") / "stderr"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, str(Path(__file__).with_name("commands.py"))]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(*arguments: object, killed: str | None = None) -> int:
        process.stdin.write(json.dumps([killed, list(map(str, arguments))]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, errors.read_text()[-2000:]
        return int(answer)

    yield run
    process.stdin.close()
    process.wait()


def settings_file(folder: Path) -> Path:
    """``CONFIG`` with a checkpoint after every step."""
    from retrieveall.config import dump_yaml

    path = folder / "training.yaml"
    path.write_text(dump_yaml(CONFIG.model_copy(update={"checkpoint_minutes": 1e-9})))
    return path


@pytest.mark.parametrize(
    ("moment", "checkpoints"),
    [
        ("before_the_first_checkpoint", 0),
        ("in_the_middle_of_the_third_checkpoint", 2),  # the third has no state
        ("before_the_commit", 2),  # all steps are done; the last two checkpoints are kept
    ],
)
def test_wherever_a_run_is_killed_it_ends_with_the_same_weights(
    trained: tuple[Path, dict[str, float]],
    model_copy: Path,
    corpus: dict[str, list[Sentence]],
    tmp_path: Path,
    command: Command,
    moment: str,
    checkpoints: int,
) -> None:
    for language in ("de", "zh"):
        folder = tmp_path / "data" / language
        folder.mkdir(parents=True)
        write_jsonl(corpus[language], folder / "train.jsonl")
        write_jsonl(corpus[language][:4], folder / "validation.jsonl")
    arguments = ["train", tmp_path / "data", "--out", model_copy, "--config", settings_file(tmp_path)]
    before = digests(model_copy)
    assert command(*arguments, killed=moment) == -signal.SIGKILL
    assert digests(model_copy) == before
    run_folder = model_copy.with_name("model.train.run")
    assert len(list(run_folder.glob("checkpoint-*/trainer_state.json"))) == checkpoints
    assert command(*arguments) == 0
    assert weights(model_copy) == weights(trained[0])
    assert not run_folder.exists()


def test_add_language_is_killed(model_copy: Path, tmp_path: Path, command: Command) -> None:
    """Before its change is decided the folder stays as it was; after that, whoever opens it next completes it."""
    from retrieveall.model_folder import ModelFolder

    write_jsonl(french(24), tmp_path / "fr.jsonl")
    before = digests(model_copy)

    def add(folder: Path, killed: str | None = None) -> int:
        data = ["--data", tmp_path / "fr.jsonl", "--config", settings_file(tmp_path)]
        return command("add-language", "fr", *data, "--model", folder, killed=killed)

    other = Path(shutil.copytree(model_copy, tmp_path / "other"))
    assert add(model_copy, killed="before_the_change_is_decided") == -signal.SIGKILL
    assert ModelFolder.open(model_copy).languages() == ("de", "en", "zh")
    assert digests(model_copy) == before
    assert add(model_copy) == 0
    assert add(other, killed="when_half_of_the_change_is_done") == -signal.SIGKILL
    for folder in (model_copy, other):
        opened = ModelFolder.open(folder)  # compares every checksum
        assert opened.languages() == opened.knowledge().languages == ("de", "en", "fr", "zh")
        assert {name: digest for name, digest in digests(folder).items() if name in before} | {
            "manifest.json": before["manifest.json"]
        } == before
    assert weights(other) == weights(model_copy)


@pytest.mark.parametrize("full_at", ["weights", "optimiser"])
def test_a_full_disk_at_a_checkpoint_is_one_line_and_the_run_goes_on(
    trained: tuple[Path, dict[str, float]],
    tiny_model: Path,
    corpus: dict[str, list[Sentence]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full_at: str,
) -> None:
    """safetensors and torch have errors of their own for it. Where files may not grow, they meet the same ones."""
    resource: Any = pytest.importorskip("resource", reason="limits of POSIX")
    from transformers import Trainer

    from retrieveall.training.run import train

    sound = max(trained[0].with_name("run").glob("checkpoint-*/weights.safetensors")).stat().st_size
    limit = 4096 if full_at == "weights" else sound + 100
    save_checkpoint = Trainer._save_checkpoint

    def on_a_full_disk(*arguments: Any) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            save_checkpoint(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    folder = tmp_path / "model"
    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(folder)
    before = digests(folder)
    arguments: Any = folder, data_of(corpus, "de", "zh"), CONFIG, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", on_a_full_disk)
        with pytest.raises(ModelFolderError, match=r"could not write a checkpoint to .*; free space") as caught:
            train(*arguments, device="cpu", show_bar=False)
    assert "\n" not in str(caught.value)
    assert digests(folder) == before
    capsys.readouterr()
    train(*arguments, device="cpu", show_bar=False)
    said = capsys.readouterr().err
    assert "run holds no checkpoint of this run yet, so it starts from the beginning; they are written every" in said
    assert "--set checkpoint_minutes=1" in said
    assert weights(folder) == weights(trained[0])


def test_a_checkpoint_whose_state_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    from retrieveall.training.loop import _last_checkpoint

    for name, state in (("checkpoint-9", "{}"), ("checkpoint-10", '{"epoch": 1.'), ("checkpoint-11", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(state)
    assert _last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data", "number of sentences: zh 20 then, not set now;"),
        ("labels", "texts or labels;"),
        ("training settings", "training settings: learning_rate 0.01 then, 0.02 now; lora.rank 4 then, 2 now;"),
        ("settings of the model", "settings of the model: prompt.entity_examples 4 then, 3 now;"),
        ("knowledge", "knowledge;"),
        ("backbone", "backbone;"),
    ],
)
def test_a_run_folder_of_another_run_is_refused(
    trained: tuple[Path, dict[str, float]],
    corpus: dict[str, list[Sentence]],
    build_model: Callable[..., Path],
    tmp_path: Path,
    change: str,
    said: str,
) -> None:
    """Above all on another backbone: adapters that were trained half on one and half on the other fit neither."""
    from retrieveall.knowledge import KnowledgeBase
    from retrieveall.model_folder import ModelFolder
    from retrieveall.storage import Transaction
    from retrieveall.training.run import LanguageData, train

    folder, run = tmp_path / "model", tmp_path / "run"
    if change == "backbone":
        build_model(folder, attention="full", seed=1)
    else:
        ModelFolder.open(trained[0]).copy_to(folder)
    shutil.copytree(trained[0].with_name("run"), run)
    data, config = data_of(corpus, "de", "zh"), CONFIG
    with Transaction(folder) as transaction:
        if change == "settings of the model":
            settings = (folder / "retrieveall.yaml").read_text()
            transaction.path("retrieveall.yaml").write_text(
                settings.replace("entity_examples: 4", "entity_examples: 3")
            )
        elif change == "knowledge":
            knowledge = KnowledgeBase.open(folder / "knowledge", part_of_model=True)
            knowledge.add_language("fr", french(3))
            knowledge.save_language("fr", transaction.replace_folder("knowledge/fr"))
    if change == "data":
        data = data_of(corpus, "de")
    elif change == "training settings":
        lora = CONFIG.lora.model_copy(update={"rank": 2})
        config = CONFIG.model_copy(update={"learning_rate": 0.02, "lora": lora})
    elif change == "labels":
        first, *others = corpus["de"]
        relabelled = replace(first, entities=(replace(first.entities[0], label="ORG"),))
        data["de"] = LanguageData([relabelled, *others], data["de"].validation)
    before = digests(folder)
    with pytest.raises(DataError, match=re.escape(f"differs in {said}")) as caught:
        train(folder, data, config, run, device="cpu", show_bar=False)
    assert digests(folder) == before
    assert not re.search("[0-9a-f]{12}", str(caught.value).replace(str(run), "")), "no checksums"


def test_the_run_of_another_version_is_said_to_be_one(tmp_path: Path) -> None:
    from retrieveall.training.identity import check_identity, write_identity

    write_identity(tmp_path, {"settings": "0123456789abcdef"})
    with pytest.raises(DataError, match="another version"):
        check_identity(tmp_path, {"training settings": {"epochs": 1}})


def test_a_damaged_record_of_a_run_is_said_to_be_damaged(tmp_path: Path) -> None:
    from retrieveall.training.identity import check_identity, write_identity

    write_identity(tmp_path, {"training settings": {"epochs": 1}})
    check_identity(tmp_path, {"training settings": {"epochs": 1}})
    whole = (tmp_path / "run.json").read_bytes()
    for damaged in (whole[:-3], b"", b"[]", b"\xff"):
        (tmp_path / "run.json").write_bytes(damaged)
        with pytest.raises(DataError, match=r"run\.json: .* damaged"):
            check_identity(tmp_path, {"training settings": {"epochs": 1}})
