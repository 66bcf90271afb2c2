"""Whole runs on a tiny model: learning, resuming after SIGKILL, one language or all, adding a language."""

from __future__ import annotations

import hashlib
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

from retrieveall import RetrieveAll
from retrieveall.config import TrainingConfig
from retrieveall.data import write_jsonl
from retrieveall.errors import DataError, InputError, LanguageError, ModelFolderError
from retrieveall.types import Entity, Sentence

CONFIG = TrainingConfig.model_validate(
    {
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
        "epochs": 2,
        "batch_size": 2,
        "learning_rate": 0.01,
        "word_dropout": 0.1,
        "checkpoint_minutes": 0.001,
        "validation_sentences": 4,
    }
)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(folder).items() if name.endswith("adapter_model.safetensors")}


def data_of(corpus: dict[str, list[Sentence]], *languages: str) -> dict[str, Any]:
    from retrieveall.training.run import LanguageData

    return {language: LanguageData(corpus[language], corpus[language][:4]) for language in languages}


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """``tiny_model`` with the adapters of de and zh trained in one run."""
    from retrieveall.training.run import train

    folder = tmp_path_factory.mktemp("trained")
    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(folder / "model")
    scores = train(folder / "model", data_of(corpus, "de", "zh"), CONFIG, folder / "run", device="cpu", show_bar=False)
    return folder / "model", scores


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


def test_progress_lines() -> None:
    from retrieveall.training.progress import describe

    assert describe({"loss": 0.25, "learning_rate": 1e-3, "epoch": 0.5}, 50, 100) == "step 50 of 100: loss 0.2500"
    assert describe({"total_flos": 1.0}, 50, 100) is None


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
    train(*arguments, device="cpu", show_bar=False)
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


def french(count: int) -> list[Sentence]:
    texts = [f"Marie habite à Paris depuis {number} ans ." for number in range(count)]
    return [
        Sentence(text, (Entity(0, 5, "PER", "Marie"), Entity(15, 20, "LOC", "Paris")), "fr", f"fr-{i}")
        for i, text in enumerate(texts)
    ]


def test_add_language_leaves_every_other_file_as_it_was(model_copy: Path, tmp_path: Path) -> None:
    from retrieveall.training.run import LanguageData, add_language

    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    text = "Anna wohnt in Köln ."
    before, predicted = digests(model_copy), model.predict(text, language="de")[0].entities
    config = CONFIG.model_copy(update={"epochs": 20.0, "checkpoint_minutes": 10.0})
    scores = add_language(
        model_copy, "fr", LanguageData(french(24), french(4)), config, tmp_path / "run", device="cpu", show_bar=False
    )
    after = digests(model_copy)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json"} | {
        name for name in after if name.startswith(("adapters/fr/", "knowledge/fr/"))
    }
    assert set(before) <= set(after)
    assert scores.told is not None
    assert scores.told > 0.9, "24 sentences that differ in a number are learnt by heart"
    model.reload()
    assert "fr" in model.languages
    assert model.predict(text, language="de")[0].entities == predicted
    found = model.predict("Marie habite à Paris depuis 7 ans .", language="fr")[0].entities
    assert [(entity.text, entity.label) for entity in found] == [("Marie", "PER"), ("Paris", "LOC")]


def test_a_small_language_is_passed_over_more_often() -> None:
    from retrieveall.training.run import settings_for

    default = TrainingConfig()
    assert settings_for(default, 100_000) == default
    assert settings_for(default, 20_000) == default
    hundred, thousand = settings_for(default, 100), settings_for(default, 1000)
    assert hundred.epochs > thousand.epochs > default.epochs
    assert hundred.batch_size < thousand.batch_size == default.batch_size
    assert hundred.row_length is not None
    assert thousand.row_length is None
    assert settings_for(TrainingConfig(batch_size=4), 100).batch_size == 4
    assert settings_for(TrainingConfig(row_length=200), 100).row_length == 200
    own = TrainingConfig(epochs=3.0)
    assert settings_for(own, 100) == own
    assert settings_for(TrainingConfig(steps=5), 100) == TrainingConfig(steps=5)


@pytest.mark.parametrize(
    ("language", "sentences", "error", "message"),
    [
        ("de", french(2), LanguageError, "has the language 'de' already"),
        ("../x", french(2), LanguageError, "language identifier"),
        ("fr", [], InputError, "got none"),
        ("fr", [Sentence("Paris", (Entity(0, 5, "CITY", "Paris"),), "fr", "1")], InputError, "CITY"),
    ],
)
def test_a_refused_language_leaves_the_folder_as_it_was(
    model_copy: Path, tmp_path: Path, language: str, sentences: list[Sentence], error: type[Exception], message: str
) -> None:
    from retrieveall.training.run import LanguageData, add_language

    before = digests(model_copy)
    with pytest.raises(error, match=message):
        add_language(
            model_copy, language, LanguageData(sentences), CONFIG, tmp_path / "run", device="cpu", show_bar=False
        )
    assert digests(model_copy) == before


def test_probabilities_are_calibrated_on_validation(trained: tuple[Path, dict[str, float]]) -> None:
    """The card holds the calibration, and the pipeline applies it."""
    from dataclasses import replace

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
