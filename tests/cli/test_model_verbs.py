"""``info``, ``remove-language``, ``add-language``, ``train`` and ``evaluate`` on a tiny model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_fakes import FakeModel, one_error
from typer.testing import Result

from retrieveall.config import ModelConfig, load_yaml
from retrieveall.data import write_jsonl
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction
from retrieveall.training import run as training
from retrieveall.types import Entity, Sentence

Run = Callable[..., Result]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.fixture
def data(corpus: dict[str, list[Sentence]], tmp_path: Path) -> Path:
    """20 training and 4 validation and test sentences for each of de, en and zh."""
    root = tmp_path / "data"
    for language, sentences in corpus.items():
        (root / language).mkdir(parents=True)
        write_jsonl(sentences, root / language / "train.jsonl")
        for split in ("validation", "test"):
            write_jsonl(sentences[:4], root / language / f"{split}.jsonl")
    return root


# -- info ---------------------------------------------------------------------------------------------------------


def test_info_counts_what_is_there(run: Run, tiny_model: Path) -> None:
    facts = json.loads(run("info", tiny_model, "--json").stdout)
    from safetensors.numpy import load_file

    weights = load_file(tiny_model / "backbone" / "model.safetensors")
    assert facts["backbone"]["parameters"] == sum(tensor.size for tensor in weights.values())
    files = [path for path in tiny_model.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert facts["bytes"] == sum(path.stat().st_size for path in files)
    assert facts["languages"] == ["de", "en", "zh"]
    assert facts["knowledge"] == {"de": 20, "en": 20, "zh": 20}
    assert {name: card["rank"] for name, card in facts["adapters"].items()} == {"de": 2, "en": 3, "zh": 8}
    assert facts["labels"] == {"PER": "kind PER", "ORG": "kind ORG", "LOC": "kind LOC"}


def test_info_for_people(run: Run, tiny_model: Path) -> None:
    shown = run("info", tiny_model).stdout
    for part in ("tiny", "parameters", "PER (kind PER)", "mini.v1", "attention full", "zh"):
        assert part in shown


def test_info_says_what_scores_were_measured_on(run: Run, tiny_model: Path, model_copy: Path) -> None:
    said = "on its own validation sentences"
    file = Path("adapters", "de", "adapter_card.json")
    for scores, shown in (({}, False), ({"validation_f1": 0.5}, True)):
        with Transaction(model_copy) as transaction:
            for language in ("de", "en", "zh"):
                card = json.loads((tiny_model / "adapters" / language / file.name).read_text("utf-8"))
                own = scores if language == "de" else {}
                path = transaction.path(f"adapters/{language}/{file.name}")
                path.write_text(json.dumps(card | {"scores": own}), encoding="utf-8")
        assert (said in " ".join(run("info", model_copy).stdout.split())) is shown


def test_info_shows_the_first_paragraph_of_the_card(run: Run, model_copy: Path) -> None:
    assert json.loads(run("info", model_copy, "--json").stdout)["card"] == ""
    with Transaction(model_copy) as transaction:
        text = "---\nlicense: mit\n---\n\n# Tiny\n\nFinds names\nin \x1b[31mtests.\n\nSecond paragraph.\n"
        transaction.path("README.md").write_text(text, encoding="utf-8")
    assert json.loads(run("info", model_copy, "--json").stdout)["card"] == "Finds names in \x1b[31mtests."
    shown = run("info", model_copy).stdout
    assert "Finds names in" in shown
    assert "\x1b" not in shown
    assert "Second paragraph" not in shown


def test_info_counts_numbers_and_not_bytes(run: Run, tiny_model: Path, model_copy: Path) -> None:
    from safetensors.torch import save_file

    before = json.loads(run("info", tiny_model, "--json").stdout)["backbone"]["parameters"]
    codes = {"w.codes4": torch.zeros(3, 16, dtype=torch.uint8), "w.scales": torch.zeros(3, 1, dtype=torch.float16)}
    with Transaction(model_copy) as transaction:
        save_file(codes, transaction.path("backbone/packed.safetensors"))
    assert json.loads(run("info", model_copy, "--json").stdout)["backbone"]["parameters"] == before + 3 * 32


def test_info_tells_sizes_on_disk_and_in_memory_apart(run: Run, tiny_model: Path) -> None:
    facts = json.loads(run("info", tiny_model, "--json").stdout)
    assert facts["backbone"]["bytes_in_memory"] == 4 * facts["backbone"]["parameters"]
    parts = dict.fromkeys(facts["bytes_of_parts"], 0)
    for path in tiny_model.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            inside = path.relative_to(tiny_model).parts
            parts[inside[0] if len(inside) > 1 else "other files"] += path.stat().st_size
    assert facts["bytes_of_parts"] == parts
    shipped = {line.split("  ")[0]: line for line in run("info", "base").stdout.splitlines()}
    assert "82,958,592 parameters" in shipped["backbone"]
    assert "MB" not in shipped["backbone"]
    assert "MB (adapters " in shipped["size on disk"]
    assert "331.8 MB for the backbone, all parameters as float32; less on a CPU" in shipped["size in memory"]


def test_info_of_a_damaged_model(run: Run, model_copy: Path) -> None:
    file = model_copy / "adapters" / "de" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    one_error(run("info", model_copy), str(file), "truncated")


# -- remove-language ----------------------------------------------------------------------------------------------


def test_remove_touches_no_other_language(run: Run, model_copy: Path) -> None:
    before = contents(model_copy)
    result = run("remove-language", "de", "--model", model_copy)
    assert result.exit_code == 0
    assert "languages left: en, zh" in result.stdout
    assert contents(model_copy) == {name: digest for name, digest in before.items() if "/de/" not in name}
    assert ModelFolder.open(model_copy).languages() == ("en", "zh")


def test_remove_from_a_copy(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    before = contents(tiny_model)
    copy = tmp_path / "copy"
    assert run("remove-language", "de", "--model", tiny_model, "--copy-to", copy).exit_code == 0
    assert contents(tiny_model) == before
    assert ModelFolder.open(copy).languages() == ("en", "zh")


def test_remove_what_is_not_there(run: Run, model_copy: Path, tmp_path: Path) -> None:
    one_error(run("remove-language", "xx", "--model", model_copy), "de, en, zh", "'xx'")
    one_error(run("remove-language", "xx", "-m", model_copy, "--copy-to", tmp_path / "copy"), "de, en, zh", "'xx'")
    assert not (tmp_path / "copy").exists()


def test_the_shipped_model_is_not_changed(
    run: Run, model_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieveall.model_folder.shipped_models", lambda: {"base": model_copy})
    before = contents(model_copy)
    one_error(run("remove-language", "de"), "--copy-to")
    one_error(run("remove-language", "de", "--model", "owner/model"), "--copy-to")
    assert run("remove-language", "de", "--copy-to", tmp_path / "copy").exit_code == 0
    assert contents(model_copy) == before
    assert run("remove-language", "de", "--model", model_copy).exit_code == 0  # by its path it is a folder like any


# -- add-language -------------------------------------------------------------------------------------------------


class Recorder:
    """Stands in for a training function; keeps what it was called with."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.arguments: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any, **_: Any) -> object:
        self.arguments = arguments
        assert arguments[-1].name.endswith(".run") or arguments[-1].name == "named"
        arguments[-1].mkdir(exist_ok=True)
        return self.result


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(training.Scores(told=0.5, routed=0.4, steps=100))
    monkeypatch.setattr(training, "add_language", recorder)
    return recorder


def test_add_language_from_a_folder(run: Run, adding: Recorder, data: Path, model_copy: Path) -> None:
    for place in (data / "de", data):
        settings = ["--set", "epochs=2", "--set", "lora.rank=8", "--set", "learning_rate=1e-3"]
        result = run("add-language", "de", "--data", place, "--model", model_copy, *settings)
        assert result.exit_code == 0, result.output
        assert "validation F1 40.0 routed, 50.0 with the language given" in result.stdout
        assert "20 sentences with" in result.stderr
        assert "routing costs 10.0 F1" in result.stderr
        folder, language, sentences, config, run_folder = adding.arguments
        assert (folder, language) == (model_copy, "de")
        assert (len(sentences.train), len(sentences.validation)) == (20, 4)
        assert (config.epochs, config.lora.rank, config.learning_rate) == (2, 8, 1e-3)
        assert not run_folder.exists()  # a complete run needs no checkpoints


def test_add_language_from_files(run: Run, adding: Recorder, data: Path, model_copy: Path, tmp_path: Path) -> None:
    settings = tmp_path / "training.yaml"
    settings.write_text("epochs: 4\nlora: {rank: 2}\n")
    files = ["--data", data / "de" / "train.jsonl", "--validation", data / "de" / "test.jsonl"]
    options = ["--config", settings, "--set", "lora.alpha=7", "--run", tmp_path / "named"]
    assert run("add-language", "nds", *files, "-m", model_copy, *options).exit_code == 0
    _, language, sentences, config, run_folder = adding.arguments
    assert (language, sentences.train[0].language, len(sentences.validation)) == ("nds", "de", 4)
    assert (config.epochs, config.lora.rank, config.lora.alpha) == (4, 2, 7)
    assert run_folder.is_dir()  # its owner named it


def test_add_language_again_when_it_is_complete(run: Run, data: Path, model_copy: Path) -> None:
    command = ["add-language", "nds", "--data", data / "de", "-m", model_copy, "--set", "lora.scalings=[1]"]
    assert run(*command, "--set", "steps=2").exit_code == 0
    before = contents(model_copy)
    again = run(*command, "--set", "steps=2")
    assert again.exit_code == 0
    assert f"nds is complete in {model_copy}, added by a run with this data and these settings; " in again.stdout
    assert f"remove it first with: retrieveall remove-language nds --model {model_copy}" in again.stdout
    one_error(run(*command, "--set", "steps=3"), "has the language 'nds' already")
    assert contents(model_copy) == before


def test_add_language_again_after_an_interruption(run: Run, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    arguments = ["add-language", "nds", "--data", data / "de", "-m", tiny_model, "--copy-to", copy]

    class Interrupted(Recorder):
        def __call__(self, *arguments: Any, **_: Any) -> object:
            super().__call__(*arguments)
            if self.result:
                (arguments[-1] / "checkpoint-1").mkdir()
            raise KeyboardInterrupt

    def call(function: Recorder) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "add_language", function)
            return run(*arguments)

    for checkpoint in (False, True):
        result = call(Interrupted(checkpoint))
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "interrupted")
        assert (tmp_path / "copy.nds.run").exists() == checkpoint
        assert ("to resume" in result.stderr) == checkpoint
    assert call(Recorder(training.Scores(None, None, 100))).exit_code == 0
    assert not (tmp_path / "copy.nds.run").exists()


def test_a_copy_that_is_another_model_is_refused(
    run: Run, adding: Recorder, data: Path, tiny_model: Path, tiny_repeat_model: Path, model_copy: Path
) -> None:
    arguments = ["add-language", "nds", "--data", data / "de", "--copy-to", model_copy, "-m"]
    before = contents(model_copy)
    one_error(run(*arguments, tiny_repeat_model), str(model_copy), "another model", "--model")
    assert contents(model_copy) == before
    assert run(*arguments, tiny_model).exit_code == 0


def test_bad_additions(run: Run, data: Path, model_copy: Path, tmp_path: Path) -> None:
    file = data / "de" / "train.jsonl"
    one_error(run("add-language", "../de", "--data", file, "-m", model_copy), "language identifier")
    one_error(run("add-language", "nds", "--data", tmp_path / "no.tsv", "-m", model_copy), "no.tsv", "check the path")
    one_error(run("add-language", "nds", "--data", tmp_path / "model", "-m", model_copy), "train.tsv")
    one_error(run("add-language", "nds", "--data", file), "--copy-to")
    prose = tmp_path / "prose.txt"
    prose.write_text("Ada wohnt in Berlin.\nKarl wohnt in Köln.\n")
    one_error(run("add-language", "nds", "--data", prose, "-m", model_copy), "prose.txt", "conll")
    one_error(run("add-language", "de", "--data", file, "-m", model_copy), "already", "remove-language")


@pytest.mark.parametrize(
    "arguments", [["add-language", "nds", "--data", "no.tsv", "--model", "no"], ["train", "no", "--out", "no"]]
)
def test_training_without_its_extra_names_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """It is asked for first: the data need not even be there."""
    monkeypatch.setattr("retrieveall.training.find_spec", lambda name: None)
    one_error(run(*arguments), "'accelerate'", "pip install 'retrieveall[train]'")


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ("epochs", 2, "KEY=VALUE"),
        ("=2", 2, "KEY=VALUE"),
        ("epochs=[", 2, "YAML"),
        ("epoch=2", 1, "epoch: expected a known key, got one that does not exist; did you mean epochs?"),
        ("rank=8", 1, "did you mean lora.rank?"),
        ("lora.epochs=8", 1, "did you mean epochs?"),
        ("xyz=8", 1, "check its spelling"),
        ("epochs=many", 1, "epochs"),
        ("lora.rank=0", 1, "lora.rank"),
        ("lora.rank.x=0", 1, "lora.rank"),
    ],
)
def test_bad_settings(run: Run, data: Path, model_copy: Path, change: str, code: int, part: str) -> None:
    result = run("add-language", "nds", "--data", data, "-m", model_copy, "--set", change)
    assert result.exit_code == code
    assert part in result.stderr


# -- train --------------------------------------------------------------------------------------------------------


def test_train_makes_a_model_and_goes_on(
    run: Run, data: Path, tiny_repeat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = Recorder({"de": 0.25, "zh": 0.75})
    monkeypatch.setattr(training, "train", fitting)
    out = tmp_path / "new"
    arguments = ["train", data, "--out", out, "--languages", "zh,de", "-b", tiny_repeat_model / "backbone"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "zh\tvalidation F1 75.0" in result.stdout
    folder, corpora, _, _ = fitting.arguments
    assert folder == out
    assert {name: (len(of.train), len(of.validation)) for name, of in corpora.items()} == {"zh": (20, 4), "de": (20, 4)}
    assert load_yaml(ModelConfig, out / "retrieveall.yaml").label_names == ("LOC", "ORG", "PER")
    assert ModelFolder.open(out).knowledge().languages == ("de", "zh")
    again = run(*arguments)  # the same command after an interruption
    assert again.exit_code == 0
    assert "is an existing model" in again.stderr


def test_train_without_a_backbone_is_2(run: Run, data: Path, tmp_path: Path) -> None:
    result = run("train", data, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "--backbone" in result.stderr
    assert not (tmp_path / "new").exists()


def test_train_without_labels(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "de").mkdir(parents=True)
    write_jsonl([Sentence("Ada")], tmp_path / "data" / "de" / "train.jsonl")
    one_error(run("train", tmp_path / "data", "-o", tmp_path / "new", "-b", "x"), "entities", "--settings")


# -- evaluate -----------------------------------------------------------------------------------------------------


def gold(text: str, *found: tuple[int, int, str]) -> Sentence:
    return Sentence(text, tuple(Entity(a, b, label, text[a:b]) for a, b, label in found))


@pytest.fixture
def scored(tmp_path: Path, fake: FakeModel) -> Path:
    """Two languages, whose F1 of the fake model is 1 and 2/3 by hand."""
    sentences: Mapping[str, list[Sentence]] = {
        "de": [gold("Ada in London", (0, 3, "PER"), (7, 13, "LOC")), gold("nichts")],
        "en": [gold("Ada, Bo", (0, 3, "PER"), (5, 7, "PER"))],
    }
    for language, some in sentences.items():
        (tmp_path / "gold" / language).mkdir(parents=True)
        write_jsonl(some, tmp_path / "gold" / language / "test.jsonl")
    return tmp_path / "gold"


def test_evaluate(run: Run, scored: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run("evaluate", scored, "--output", report)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["de", "2", "100.0"] in [line[:3] for line in lines]
    assert ["en", "1", "66.7"] in [line[:3] for line in lines]
    assert max(map(len, result.stdout.splitlines())) <= 80
    raw = json.loads(report.read_text())
    assert raw["languages"]["en"]["f1"] == pytest.approx(2 / 3)
    assert (raw["choice"], raw["data"]) == ("routed", "gold test")


def test_evaluate_one_file_with_the_gold_language(run: Run, scored: Path, tmp_path: Path) -> None:
    file, report = scored / "de" / "test.jsonl", tmp_path / "report.json"
    result = run("evaluate", file, "--language", "de", "--gold-language", "--limit", "1", "-o", report)
    assert result.exit_code == 0, result.output
    raw = json.loads(report.read_text())
    assert (raw["choice"], raw["languages"]["de"]["sentences"]) == ("gold", 1)


def test_evaluating_on_texts_without_an_entity_is_warned_of(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "plain.jsonl"
    file.write_text('{"text": "Ada in London"}\n{"text": "Bo"}\n', encoding="utf-8")
    result = run("evaluate", file, "--language", "en")
    assert result.exit_code == 0, result.output
    assert "warning: en: no entity in 2 sentences" in result.stderr
    file.write_text('{"text": "Ada", "entities": [{"start": 0, "end": 3, "label": "PER"}]}\n', encoding="utf-8")
    assert "warning" not in run("evaluate", file, "--language", "en").stderr


def test_evaluate_without_the_grammar(run: Run, scored: Path, fake: FakeModel) -> None:
    for options, constrained in (((), None), (("--unconstrained",), False)):
        assert run("evaluate", scored, *options).exit_code == 0
        assert fake.opened[1]["constrained"] is constrained  # type: ignore[attr-defined]


def test_bad_evaluations(run: Run, scored: Path, tmp_path: Path) -> None:
    one_error(run("evaluate", tmp_path / "no"), "check the path")
    one_error(run("evaluate", scored, "--languages", "fr"), "fr", "check the language")
    one_error(run("evaluate", scored, "--split", "train"), "train.tsv")
    write_jsonl([gold("Ada", (0, 3, "PERSON"))], tmp_path / "other.jsonl")
    one_error(run("evaluate", tmp_path / "other.jsonl", "-l", "de"), "PER, ORG, LOC", "'PERSON'", "relabel")
    for arguments in (
        [scored / "de" / "test.jsonl"],
        [scored, "--language", "de"],
        [scored, "--split", "dev"],
        [scored, "--output", tmp_path / "no" / "report.json"],
        [scored / "de" / "test.jsonl", "-l", "de", "--languages", "de"],
    ):
        assert run("evaluate", *arguments).exit_code == 2


def test_a_split_of_a_single_file_is_refused(run: Run, scored: Path) -> None:
    for split in ("train", "test"):
        result = run("evaluate", scored / "de" / "test.jsonl", "-l", "de", "--split", split)
        assert result.exit_code == 2
        assert "only for a folder" in result.stderr
