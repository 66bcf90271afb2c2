"""The command: cells run once, a report in Markdown and in one HTML file, errors in one line."""

from __future__ import annotations

import json
import lzma
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retrieveall.cli.app import app

CONFIGS = Path(__file__).parents[2] / "benchmarks" / "configs"
pytest.importorskip("matplotlib")
pytest.importorskip("pycrfsuite")


def _run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def smoke(corpus_folder: Path, causal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The results of the shipped smoke test and the options that it was run with."""
    out = tmp_path_factory.mktemp("smoke") / "out"
    options = ["--set", f"data.path={corpus_folder}", "--set", f"backbone={causal_folder}", "--out", str(out)]
    status, output = _run(CONFIGS / "smoke.yaml", *options, "--jobs", 0)
    assert status == 0, output
    return out, options


def test_all_methods_have_a_row_and_figures_are_drawn(smoke: tuple[Path, list[str]]) -> None:
    out, _ = smoke
    text = (out / "report.md").read_text(encoding="utf-8")
    for name in ("RetrieveAll", "told the language", "CRF", "LS-unLLaMA", "PromptNER"):
        assert re.search(rf"^\| {re.escape(name)} \| \d", text, re.MULTILINE)
    assert {path.stem for path in (out / "figures").iterdir()} >= {"f1", "cost", "routing"}


def test_the_page_loads_nothing(smoke: tuple[Path, list[str]]) -> None:
    page = (smoke[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == len(list((smoke[0] / "figures").iterdir()))
    assert not re.search(r"<script|<link|<img|src=|url\(http|@import", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_result_says_where_it_comes_from_and_holds_no_text(
    smoke: tuple[Path, list[str]], corpus_folder: Path
) -> None:
    results = [json.loads(path.read_bytes()) for path in smoke[0].glob("cells/*/result.json")]
    assert len(results) == 7  # three joint methods; CRF and PromptNER in two languages
    for result in results:
        assert result["provenance"]["versions"]["python"]
        assert result["model_fingerprint"]
        assert result["seed"] == 13
        assert result["cost"]["peak_memory_mb"] > 0
    kept = "".join(path.read_text(encoding="utf-8") for path in smoke[0].glob("cells/*/predictions.jsonl"))
    assert "Anna" not in kept


def results_in(files: list[Path]) -> list[Path]:
    return [path for path in files if path.name == "result.json"]


def test_no_text_of_the_corpus_is_published(smoke: tuple[Path, list[str]], corpus_folder: Path, tmp_path: Path) -> None:
    status, output = _run(smoke[0], "--ship", tmp_path / "shipped")
    assert status == 0, output
    files = [path for path in (tmp_path / "shipped").rglob("*") if path.is_file()]
    kept = [lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes() for path in files]
    lines = [
        line.split("\t") for path in corpus_folder.glob("*/*.tsv") for line in path.read_text("utf-8").splitlines()
    ]
    mentions = {word.encode() for word, *tag in lines if tag and tag[0] != "O" and len(word) > 4}
    (machine,) = {json.dumps(json.loads(path.read_bytes())["provenance"]["machine"]) for path in results_in(files)}
    mentions = {word for word in mentions if word not in machine.encode()}  # "Intel" is a name of the corpus, too
    assert mentions
    assert not {word for word in mentions if any(word in data for data in kept)}


def test_a_finished_cell_is_not_run_again(smoke: tuple[Path, list[str]]) -> None:
    out, options = smoke
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    gone = next(path for path in before if path.parent.name.startswith("CRF.en"))
    gone.unlink()
    status, output = _run(CONFIGS / "smoke.yaml", *options)  # in a process of its own
    assert status == 0, output
    after = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert {path for path in before if before[path] != after[path]} == {gone}


def test_cells_that_differ_at_inference_only_share_one_training(smoke: tuple[Path, list[str]]) -> None:
    results = [json.loads(path.read_bytes()) for path in smoke[0].glob("cells/*/result.json")]
    prints = {each["method"]["name"]: (each["model_fingerprint"], each["cost"]["training_seconds"]) for each in results}
    assert prints["RetrieveAll"] == prints["told the language"]


def test_the_report_can_be_written_again(smoke: tuple[Path, list[str]]) -> None:
    out, _ = smoke
    before = (out / "report.md").read_bytes()
    (out / "report.md").unlink()
    status, _ = _run(out)
    assert status == 0
    assert (out / "report.md").read_bytes() == before


def test_a_method_that_cannot_run_costs_no_other_one(corpus_folder: Path, tmp_path: Path) -> None:
    """The backbone is missing: its method is reported as such, the CRF has its figures."""
    config = tmp_path / "two.yaml"
    config.write_text(
        f"name: two\ndata: {{path: '{corpus_folder}', languages: [de], train: 12, test: 4}}\n"
        "methods:\n  - {name: CRF, kind: crf}\n  - {name: large, kind: promptner, backbone: /nowhere/at/all}\n"
    )
    out = tmp_path / "out"
    status, output = _run(config, "--out", out)
    assert status == 1
    assert "Traceback" not in output
    text = (out / "report.md").read_text(encoding="utf-8")
    assert re.search(r"^\| CRF \| \d", text, re.MULTILINE)
    assert "large: needs weights" in text


@pytest.mark.parametrize("options", [["--jobs", 0], ["--jobs", 1], ["--prepare"]])
def test_a_wrong_backbone_is_said_before_any_cell(corpus_folder: Path, tmp_path: Path, options: list[object]) -> None:
    (tmp_path / "empty").mkdir()
    for number, wrong in enumerate(("/nowhere/at/all", "WRONG", tmp_path / "empty")):
        out = tmp_path / f"out-{number}"
        given = ["--set", f"data.path={corpus_folder}", "--set", f"backbone={wrong}", "--out", out]
        status, output = _run(CONFIGS / "smoke.yaml", *given, *options)
        assert status == 1
        last = output.strip().splitlines()[-1]
        assert "expected backbone as a Hugging Face folder, with config.json, or a hub id" in last
        assert repr(str(wrong)) in last
        assert "retrieveall.yaml" not in output
        assert not (out / "cells").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n", "data"),
        ("name: x\ndata: {path: x, languages: [de]}\nmethods: [{name: a, kind: svm}]\n", "svm"),
        ("name: x\ndata: {path: x, languages: [de]}\nmethods: [{name: a, kind: crf, depth: 3}]\n", "depth"),
        ("name: x\ndata: {path: x, languages: [de, de]}\nmethods: [{name: a, kind: crf}]\n", "differ"),
        ("name: x\ndata: {path: x, languages: [de], train: {en: 3}}\nmethods: [{name: a, kind: crf}]\n", "'en'"),
        ("name: x\ndata: {path: /no/such, languages: [de]}\nmethods: [{name: a, kind: crf}]\n", "data.path"),
        ("name: x\ndata: {path: ., languages: [de]}\nmethods: [{name: a, kind: unmasked_lm}]\n", "de"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(text)
    status, output = _run(config, "--out", tmp_path / "out")
    assert status == 1
    assert said in output
    assert "Traceback" not in output


@pytest.mark.parametrize("jobs", [0, 1])
def test_the_reason_of_a_failure_is_in_its_line(corpus_folder: Path, tmp_path: Path, jobs: int) -> None:
    config = tmp_path / "one.yaml"
    config.write_text(
        f"name: one\ndata: {{path: '{corpus_folder}', languages: [de], train: 12, test: 4}}\n"
        "methods:\n  - {name: other, kind: spacy, environment: /no/such/place}\n"
    )
    status, output = _run(config, "--out", tmp_path / "out", "--jobs", jobs)
    assert status == 1
    line = next(line for line in output.splitlines() if line.startswith("failed: other, de"))
    assert "expected an environment at /no/such/place, found none" in line


@pytest.mark.parametrize(
    ("missing", "package"), [("matplotlib", "matplotlib"), ("pycrfsuite", "python-crfsuite"), ("peft", "peft")]
)
def test_packages_are_checked_before_any_cell(
    corpus_folder: Path,
    causal_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    package: str,
) -> None:
    def found(name: str) -> object:
        return None if name == missing else find_spec(name)

    for module in ("retrieveall.benchmark.methods", "retrieveall.benchmark.report.figures"):
        monkeypatch.setattr(f"{module}.find_spec", found)
    config = tmp_path / "two.yaml"
    config.write_text(
        f"name: two\nbackbone: '{causal_folder}'\n"
        f"data: {{path: '{corpus_folder}', languages: [de], train: 12, test: 4}}\n"
        "methods: [{name: CRF, kind: crf}, {name: tuned, kind: unmasked_lm}]\n"
    )
    out = tmp_path / "out"
    status, output = _run(config, "--out", out, "--jobs", 0)
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert f"needs the package '{package}'" in last
    assert "pip install" in last
    assert not (out / "cells").exists()


def test_what_needs_no_gpu_can_be_done_before(corpus_folder: Path, causal_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--set", f"data.path={corpus_folder}", "--set", f"backbone={causal_folder}", "--out", str(out)]
    options += ["--set", "keep_models=true"]
    status, output = _run(CONFIGS / "smoke.yaml", *options, "--prepare")
    assert status == 0, output
    assert (
        "1 training prepared, 0 failed" in output
    )  # of the two that share it; the other methods have nothing to prepare
    made = {path: path.stat().st_mtime_ns for path in out.glob("models/*/run/examples/*") if path.is_file()}
    assert made
    assert not list(out.glob("cells/*/result.json"))
    assert not list(out.glob("models/*/trained.json"))
    kept = {path.relative_to(out): path.read_bytes() for path in out.glob("models/*/model/knowledge/**/*.json")}
    status, output = _run(CONFIGS / "smoke.yaml", *options, "--prepare")
    assert "prepared before: RetrieveAll" in output
    status, output = _run(CONFIGS / "smoke.yaml", *options, "--jobs", 0)
    assert status == 0, output
    assert {name: (out / name).read_bytes() for name in kept} == kept
    assert "7 cells finished, 0 failed" in output
    status, output = _run(CONFIGS / "smoke.yaml", *options, "--prepare")
    assert status == 0, output
    assert "0 trainings prepared" in output


def test_a_run_removes_the_models_of_its_own_cells_only(
    corpus_folder: Path, causal_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--set", f"data.path={corpus_folder}", "--set", f"backbone={causal_folder}", "--out", str(out)]
    assert _run(CONFIGS / "smoke.yaml", *options, "--prepare", "--set", "data.train=10")[0] == 0
    (prepared,) = (out / "models").iterdir()
    assert _run(CONFIGS / "smoke.yaml", *options, "--jobs", 0)[0] == 0
    assert list((out / "models").iterdir()) == [prepared]


def test_a_method_that_cannot_be_prepared_costs_no_other_one(
    corpus_folder: Path, causal_folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "two.yaml"
    text = (CONFIGS / "smoke.yaml").read_text(encoding="utf-8")
    first, rest = text.split("  - {name: told the language", 1)
    wrong = "  - {name: wrong, kind: retrieveall, backbone: nowhere/at/all, model: *model}\n"
    config.write_text(first + wrong + "  - {name: told the language" + rest, encoding="utf-8")
    options = ["--set", f"data.path={corpus_folder}", "--set", f"backbone={causal_folder}"]
    status, output = _run(config, *options, "--out", tmp_path / "out", "--prepare")
    assert status == 1
    assert "1 training prepared, 1 failed" in output
    assert "failed: wrong" in output


def test_results_are_not_prepared(smoke: tuple[Path, list[str]]) -> None:
    status, output = _run(smoke[0], "--prepare")
    assert status == 2
    assert "takes no option but --ship" in output.replace("\n", " ")
