"""A new model with labels of one's own, after an existing one."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retrieveall.config import LabelConfig, ModelConfig, RoutingConfig, TaggingConfig, dump_yaml, load_yaml
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction
from retrieveall.training.from_model import settings_from, training_from

ROOT = Path(__file__).resolve().parents[2]
OWN_LABELS = ROOT / "examples" / "your_own_labels"
TUTORIAL = ROOT / "docs" / "your_own_labels.md"


def run(*arguments: str | Path) -> Result:
    from retrieveall.cli.app import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def model_with(*labels: str) -> ModelFolder:
    tags = ["O", *(f"{p}-{label}" for label in labels for p in "BIES")]
    tokens = {tag: f"<|tag{number}|>" for number, tag in enumerate(tags)}
    config = ModelConfig(
        labels=tuple(LabelConfig(name=label, definition=f"a {label}") for label in labels),
        decoder=TaggingConfig(tag_tokens=tokens, temperature=0.9),
        routing=RoutingConfig(unknown=1.5),
    )
    return ModelFolder(Path("nowhere"), config)


def test_new_labels_take_over_the_tokens_of_those_left_out() -> None:
    config = settings_from(model_with("PER", "ORG", "LOC"), "mine", ["DISH", "LOC"])
    assert config.name == "mine"
    assert [(label.name, label.definition) for label in config.labels] == [("DISH", ""), ("LOC", "a LOC")]
    assert isinstance(config.decoder, TaggingConfig)
    expected = {"O": 0, "B-DISH": 1, "I-DISH": 2, "E-DISH": 3, "S-DISH": 4}
    expected |= {"B-LOC": 9, "I-LOC": 10, "E-LOC": 11, "S-LOC": 12}
    assert config.decoder.tag_tokens == {tag: f"<|tag{number}|>" for tag, number in expected.items()}
    assert config.decoder.temperature == 1.0
    assert config.routing.unknown is None  # the bare backbone knows no DISH


def test_the_same_labels_keep_their_tokens_and_the_routing() -> None:
    model = model_with("PER", "ORG", "LOC")
    config = settings_from(model, "mine", ["LOC", "PER"])
    assert isinstance(config.decoder, TaggingConfig)
    assert isinstance(model.config.decoder, TaggingConfig)
    assert all(model.config.decoder.tag_tokens[tag] == token for tag, token in config.decoder.tag_tokens.items())
    assert len(config.decoder.tag_tokens) == 9
    assert config.routing == model.config.routing


def test_more_labels_than_before_leave_some_to_be_chosen() -> None:
    config = settings_from(model_with("PER"), "mine", ["A", "B"])
    assert isinstance(config.decoder, TaggingConfig)
    assert set(config.decoder.tag_tokens) == {"O", "B-A", "I-A", "E-A", "S-A"}


def test_own_labels_on_a_tiny_model(tiny_model: Path, tmp_path: Path) -> None:
    from retrieveall import RetrieveAll
    from retrieveall.config import TrainingConfig

    out = tmp_path / "mine"
    result = run(
        "train", OWN_LABELS, "--from", tiny_model, "--out", out, "--set", "steps=3", "--set", "lora.scalings=[1]"
    )
    assert result.exit_code == 0, result.stderr
    assert "give 3 steps of training" in result.stderr
    assert "labels: DISH, PRODUCT" in result.stderr
    model = RetrieveAll.from_pretrained(out)
    assert (model.labels, model.languages) == (("DISH", "PRODUCT"), ("en",))
    before = load_yaml(ModelConfig, tiny_model / "retrieveall.yaml")
    assert model.config.prompt == before.prompt
    assert model.config.windows == before.windows
    assert (out / "backbone" / "model.safetensors").is_file()
    shape = training_from(ModelFolder.open(tiny_model), TrainingConfig()).lora
    assert (shape.rank, shape.alpha) == (2, 4.0)  # of its first adapter
    found = model.predict([json.loads(line)["text"] for line in (OWN_LABELS / "en" / "train.jsonl").open()][:5])
    assert {entity.label for each in found for entity in each.entities} <= {"DISH", "PRODUCT"}
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    same = ["--set", "steps=3", "--set", "lora.scalings=[1]"]
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    with Transaction(other) as transaction:
        config = load_yaml(ModelConfig, other / "retrieveall.yaml")
        changed = config.model_copy(update={"threshold": 0.77})
        transaction.path("retrieveall.yaml").write_text(dump_yaml(changed), encoding="utf-8")
    for arguments, refused in (
        (["--from", tiny_model, *same], False),
        (["--from", tiny_model, "--set", "steps=4", "--set", "lora.scalings=[1]"], True),
        (["--from", other, *same], True),
        (["--backbone", out / "backbone", *same], False),
        (["--backbone", OWN_LABELS, *same], True),
    ):
        again = run("train", OWN_LABELS, "--out", out, *arguments)
        assert again.exit_code == refused, again.output
        if refused:
            assert "is a trained model; choose another folder, or leave " in again.stderr
        else:
            first = result.stdout.splitlines()[:1]
            assert [line for line in again.stdout.splitlines() if "validation F1" in line] == first
            assert (
                f"{out} is complete, trained by a run with this data and these settings; to train again,"
                in again.stdout
            )
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        assert not (tmp_path / "mine.train.run").exists()


@pytest.mark.parametrize(
    "options",
    [["--backbone", "x"], ["--settings", "x.yaml"], ["--decoder", "tagging"], ["--config", "qwen2.5-7b"]],
    ids=lambda options: options[0],
)
def test_from_brings_its_own_settings(tmp_path: Path, options: list[str]) -> None:
    result = run("train", OWN_LABELS, "--from", "mini", "--out", tmp_path / "new", *options)
    assert result.exit_code == 2
    assert "--from" in result.stderr
    assert not (tmp_path / "new").exists()


def code_cells() -> list[str]:
    notebook = json.loads((OWN_LABELS / "your_own_labels.ipynb").read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_that_of_the_tutorial() -> None:
    from scripts.notebook import TARGET, notebook

    assert TARGET.read_text("utf-8") == notebook(), "run: make docs"
    text = TUTORIAL.read_text("utf-8")
    commands = "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)).splitlines()
    assert [line[1:] for cell in code_cells() for line in cell.splitlines() if line.startswith("!")] == commands
    assert set(re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)) <= set(code_cells())


def type_in(command: str) -> None:
    """A command of the tutorial, with the small model and few steps."""
    program, *arguments = shlex.split(command.replace("--from base", "--from mini --set steps=24 --set batch_size=2"))
    assert program == "retrieveall"
    result = run(*arguments)
    assert result.exit_code == 0, (command, result.output)
    if arguments[0] == "train":
        assert float(re.search(r"validation F1 (\d+\.\d)", result.stdout)[1]) > 45  # type: ignore[index]
    if arguments[0] == "extract":
        assert "DISH" in result.stdout


@pytest.mark.slow
def test_the_tutorial_and_its_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells in order, as Jupyter runs them in the folder of the notebook: commands, and Python in one namespace."""
    folder = shutil.copytree(OWN_LABELS, tmp_path / "examples" / "your_own_labels")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    typed = 0
    for cell in code_cells():
        if cell.startswith("!"):
            typed += len([type_in(line.removeprefix("!")) for line in cell.splitlines()])
            continue
        *statements, last = ast.parse(cell).body
        exec("\n".join(map(ast.unparse, statements)), names)
        if isinstance(last, ast.Expr):
            names["shown"] = eval(ast.unparse(last), names)
        else:
            exec(ast.unparse(last), names)
    assert typed == 4
    assert names["model"].labels == ("DISH", "PRODUCT")
    assert "DISH" in names["shown"]._repr_html_()
