"""Every command and every Python block of README.md and docs/ is known to the program, and runs.

They run in a folder of their own in which ``base`` and ``mini`` are a tiny model and the files that the documents name
hold a few sentences; trainings take three steps. What cannot run here is listed with the reason, and is parsed by the
command line all the same. Blocks of the tutorial, the guides "from ..." and the formats of corpora have tests of their
own, which look at the results, too.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from retrieveall.cli.app import app
from retrieveall.types import Sentence

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted(ROOT.glob("docs/*.md")) if path.name not in ("cli.md", "lab_book.md")),
]
"""Without what is generated, and without the history."""
ELSEWHERE = ("from_spacy.md", "from_gliner.md", "from_hugging_face.md", "your_own_labels.md")
"""Run by tests/integrations/test_guides.py and tests/training/test_from_model.py."""

NOT_RUN = {
    r"git clone|make run|\. \.venv|(\S*python -m )?pip install": "sets up an environment; .ci/run does",
    r"retrieveall serve|python -m retrieveall\.integrations\.label_studio": "runs until stopped; tests/serving, "
    "tests/integrations/test_label_studio.py",
    r"export |curl ": "for a running service; tests/serving/test_extract.py sends the same",
    r"cat .* \| retrieveall": "a pipe; tests/cli/test_extract_verb.py",
    r"vllm serve": "needs a GPU",
    r"retrieveall extract .*--server": "needs a server; tests/engines/test_openai_engine.py has a local one",
    r"retrieveall train panx": "needs weights of a large model; tests/backbones/test_full_cycle.py has tiny ones",
    r"retrieveall extract .*Ada Lovelace.* --model my-model": "the model of the line before",
    r"accelerate launch": "starts processes; tests/training/test_parallel_training.py",
    r"retrieveall extract .*(--engine ray|\$ )": "starts Ray; tests/distributed/test_ray.py",
    r"python -m benchmarks\.": "minutes; tests/distributed/test_ray.py kills a worker in small",
    r"RETRIEVEALL_PEERS=|retrieveall plan .*--data PANX": "needs environments, or a corpus that is not here",
    r"(head|worker)\$": "starts a cluster of Ray",
    r"retrieveall benchmark": "trains for hours, or needs weights; tests/benchmark/test_command.py has tiny ones",
    r"make (base|model) ": "builds a shipped model; tests/recipes/test_build.py",
    r"python -m (recipes|benchmarks|retrieveall\.benchmark)|OMP_NUM_THREADS=1 torchrun": "needs corpora or other "
    "libraries; tests/recipes, tests/benchmark",
}
"""Commands that are not run here, by the start of their line, with the reason."""
NOT_RUN_PYTHON = {
    "class Decoder(Protocol)": "compared with the code below",
    "class Engine(Protocol)": "compared with the code below",
    'server="http': "needs a server; tests/engines/test_openai_engine.py",
    "vllm": "needs a GPU; tests/engines/test_vllm_engine.py has a stand-in",
    "retrieveall.distributed": "starts Ray; tests/distributed/test_ray.py",
    "RayExecutor": "starts Ray; tests/training/test_ray_jobs.py",
    "serving.client": "needs a service; tests/serving/test_client.py and test_languages.py",
}

_BLOCK = re.compile(r"^```(console|bash|sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"`((?:retrieveall|cat) \S+ [^`]+)`")  # with arguments; without, a command is only mentioned
_INSIDE = re.compile(r"(?:examples|src)/[\w/.-]+")
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)  # by scripts/docs.py, which a test checks


@dataclass(frozen=True)
class Unit:
    """A block of a document, or the commands of all its tables."""

    document: str
    number: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}-{self.number}-{self.kind}"

    def commands(self) -> list[str]:
        if self.kind == "table":
            return self.text.splitlines()
        joined = self.text.replace("\\\n", " ")
        prompted = any(line.startswith("$ ") for line in joined.splitlines())  # the rest is output
        lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ") or not prompted]
        return [line for line in lines if line.strip()]


def units() -> Iterator[Unit]:
    for path in DOCUMENTS:
        text = _GENERATED.sub("", path.read_text("utf-8"))
        rows = [line for line in _BLOCK.sub("", text).splitlines() if line.startswith("|")]
        cells = [cell.replace("\\|", "|") for row in rows for cell in _CELL.findall(row)]
        if cells:
            yield Unit(path.name, 0, "table", "\n".join(cells))
        for number, (kind, body) in enumerate(_BLOCK.findall(text), 1):
            yield Unit(path.name, number, kind, body)


UNITS = list(units())
COMMANDS = [unit for unit in UNITS if unit.kind != "python"]
PYTHON = [unit for unit in UNITS if unit.kind == "python"]
HERE = [unit for unit in UNITS if unit.document not in ELSEWHERE]


def reason(command: str) -> str | None:
    """Why a command is not run here; None if it is."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


@pytest.mark.parametrize("unit", COMMANDS, ids=str)
def test_the_command_line_knows_every_option(unit: Unit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    group: Any = typer.main.get_command(app)
    for command in unit.commands():
        program, *arguments = words_of(command.partition(" | ")[2] or command)
        if program == "retrieveall" and arguments != ["..."]:
            arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
            verb, *rest = arguments
            assert verb in group.commands, command
            group.commands[verb].make_context(verb, rest)


def test_every_reason_is_needed() -> None:
    written = [command for unit in COMMANDS for command in unit.commands()]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, each) for each in written)] == []
    assert [part for part in NOT_RUN_PYTHON if not any(part in unit.text for unit in PYTHON)] == []


def test_files_of_the_repository_that_commands_name_are_in_it() -> None:
    """In a clone, that is: nothing that git does not know."""
    written = {command for unit in COMMANDS for command in unit.commands()}
    inside = re.compile(r"(?:^|=)((?:examples|benchmarks|tests|recipes|src|scripts)/[^\s=]+)$")
    named = {found[1] for command in written for word in words_of(command) if (found := inside.search(word))}
    named |= set(_INSIDE.findall((ROOT / "benchmarks/configs/smoke.yaml").read_text("utf-8")))
    assert {"examples/add_language/sw", "examples/smoke", "benchmarks/configs/smoke.yaml"} <= named
    missing = {name for name in named if not (ROOT / name).exists()} - {"benchmarks/results/NAME"}  # is written
    assert not missing
    listed = subprocess.run(["git", "ls-files", *named], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:  # else this is no clone
        files = listed.stdout.splitlines()
        assert not {
            name for name in named if not any(f"{file}/".startswith(f"{name.rstrip('/')}/") for file in files)
        } - {"benchmarks/results/NAME"}


# -- running ------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents name; ``base`` and ``mini`` are the tiny model."""
    import pyarrow
    from pyarrow import parquet

    from retrieveall.data import write_corpus, write_jsonl

    models = dict.fromkeys(("base", "mini"), tiny_model)
    monkeypatch.setattr("retrieveall.model_folder.shipped_models", lambda: models)
    monkeypatch.chdir(tmp_path)
    for folder in ("sw", "nl", "DATA/de", "panx/de", "label-studio/data/de", "folder"):
        Path(folder).mkdir(parents=True)
        for split in ("train", "validation"):
            write_corpus(corpus["de"], Path(folder) / f"{split}.tsv")
    texts = [sentence.text for sentence in corpus["en"]]
    Path("folder/train.tsv").unlink()
    Path("folder/validation.tsv").unlink()
    for name in ("texts.txt", "report.txt", "folder/a.txt"):
        Path(name).write_text("\n".join(texts), encoding="utf-8")
    for name, column in (("texts.csv", "body"), ("reviews.csv", "review")):
        Path(name).write_text("\n".join([f"id,{column}", *(f'{i},"{text}"' for i, text in enumerate(texts))]))
    parquet.write_table(pyarrow.table({"review": texts}), "reviews.parquet")
    write_jsonl(corpus["de"], Path("export.json"))
    write_corpus(corpus["de"], Path("train.tsv"))
    write_jsonl(corpus["de"], Path("train.jsonl"))
    Path("MODEL").symlink_to(tiny_model)
    shutil.copytree(tiny_model / "adapters" / "de", "ADAPTER")
    shutil.copytree(tiny_model / "adapters" / "de", "path/to/peft-adapter")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def type_in(command: str) -> None:
    """Run a line as a shell would: the program, or a line of Python."""
    program, *arguments = words_of(command)
    if program == "python" and arguments[0] == "-c":
        exec(arguments[1], {})
        return
    assert program == "retrieveall", f"{command}: run it here, or say in NOT_RUN why not"
    if arguments[0] in ("train", "add-language"):
        arguments += ["--set", "steps=3", "--set", "lora.scalings=[1]"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (command, result.output, result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [unit for unit in HERE if unit.kind != "python" and any(not reason(each) for each in unit.commands())],
    ids=str,
)
def test_commands_run(unit: Unit, here: Path, tiny_model: Path) -> None:
    wanted = [command for command in unit.commands() if reason(command) is None]
    if not re.search(r"save_pretrained|--(out|copy-to) my-model", unit.text):
        shutil.copytree(tiny_model, here / "my-model")
    for command in wanted:
        type_in(command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [unit for unit in HERE if unit in PYTHON and not any(part in unit.text for part in NOT_RUN_PYTHON)], ids=str
)
def test_python_runs(unit: Unit, here: Path) -> None:
    names: dict[str, Any] = {"texts": ["Ada Lovelace"], "model": Failing()}
    exec(unit.text, names)
    if "error.results" in unit.text:
        assert names["predictions"] == [None]


class Failing:
    """A model whose server fails."""

    def predict(self, texts: list[str]) -> None:
        from retrieveall.errors import EngineError

        raise EngineError.of_items({0: "no answer"}, [None], "text")


def test_the_protocols_of_the_architecture_are_those_of_the_code() -> None:
    from retrieveall.decoders.base import Decoder
    from retrieveall.engines.base import Engine

    for protocol in (Decoder, Engine):
        (shown,) = [unit.text for unit in PYTHON if f"class {protocol.__name__}(Protocol)" in unit.text]
        names: dict[str, Any] = {}
        exec(f"from __future__ import annotations\nfrom typing import Protocol\n{shown}", names)
        own = {*vars(names[protocol.__name__]), *names[protocol.__name__].__annotations__}
        assert {name for name in own if not name.startswith("_")} <= {*dir(protocol), *protocol.__annotations__}


def test_what_json_of_the_documents_is_json() -> None:
    for path in DOCUMENTS:
        for block in re.findall(r"^```json\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            json.loads(block)
