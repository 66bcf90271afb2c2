"""Results that are published: nothing of this machine in them, the same report, and what documents say of them."""

from __future__ import annotations

import importlib.util
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from retrieveall.benchmark.report import write_report
from retrieveall.benchmark.report.results import Results
from retrieveall.benchmark.report.summary import NONE, details, find_results, overview
from retrieveall.benchmark.report.tables import mean_f1
from retrieveall.benchmark.ship import ship, without_directories
from retrieveall.cli.app import app
from retrieveall.errors import DataError

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def shipped(made_up: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up results as published, in a folder of results."""
    root = tmp_path_factory.mktemp("results")
    done = CliRunner().invoke(app, ["benchmark", str(made_up), "--ship", str(root / "made-up")])
    assert done.exit_code == 0, done.output
    return root / "made-up"


def _texts(folder: Path) -> dict[Path, str]:
    """All files, unpacked."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path: (lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()).decode()
        for path in files
    }


def test_a_report_of_the_copy_is_the_same(made_up: Path, shipped: Path) -> None:
    write_report(made_up)
    assert (shipped / "report.md").read_bytes() == (made_up / "report.md").read_bytes()


def test_no_directory_of_this_machine_is_in_it(made_up: Path, shipped: Path) -> None:
    original = "".join(_texts(made_up).values())
    assert str(made_up) in original  # or this test could not fail
    for path, text in _texts(shipped).items():
        assert not re.search(r"(?<![\w.:/-])/(?:tmp|root|home|work|Users|var)/", text), path
        assert str(made_up) not in text
    assert not {path.name for path in _texts(shipped)} & {"cell.json", "log.txt", "predictions.jsonl"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/models/weights/e5", "e5"),
        ("no file /home/a b", "no file a b"),
        ("python /x/y.py --out /tmp/z/", "python y.py --out z/"),
        ("C:\\Users\\me\\model", "model"),
        ("~/models/qwen", "qwen"),
        ("owner/model", "owner/model"),
        ("hf://unimelb-nlp/wikiann", "hf://unimelb-nlp/wikiann"),
        ("1/2 and 3/4", "1/2 and 3/4"),
        ("environments/spacy", "environments/spacy"),
    ],
)
def test_directories_are_left_out(text: str, expected: str) -> None:
    assert without_directories({"a": [text]}) == {"a": [expected]}


def test_a_failure_does_not_quote_a_sentence(made_up: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(made_up, tmp_path / "source"))
    failed = next(source.glob("cells/*/failed.txt"))
    failed.write_text("expected words, got 'a sentence of a corpus that may not be passed on'; see /tmp/x/log.txt")
    ship(source, tmp_path / "target")
    shown = (tmp_path / "target" / failed.relative_to(source)).read_text()
    assert shown == "expected words, got '…'; see log.txt"


def test_large_predictions_stay_behind(made_up: Path, tmp_path: Path) -> None:
    done = ship(made_up, tmp_path / "target", most=1000)
    assert done.left_out > 1000
    assert not list((tmp_path / "target").rglob("*.xz"))
    text = write_report(tmp_path / "target").with_name("report.md").read_text(encoding="utf-8")
    assert "published without their predictions" in text
    assert "## Errors" not in text
    assert f"{100 * (mean_f1(Results.load(made_up), 'RetrieveAll') or 0):.1f}" in text
    assert "RetrieveAll" in details([tmp_path / "target"], "results")


def test_an_earlier_copy_is_replaced_and_other_files_are_not(made_up: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    ship(made_up, target)
    (target / "cells" / "gone").mkdir()
    ship(made_up, target)
    assert not (target / "cells" / "gone").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another"):
        ship(made_up, other)
    with pytest.raises(DataError, match="another folder"):
        ship(made_up, made_up)
    assert (other / "mine.txt").exists()


def test_every_claim_names_its_results(shipped: Path) -> None:
    for text in (overview([shipped], "results"), details([shipped], "results")):
        claims = [line for line in text.splitlines() if line.startswith("- ")]
        assert len(claims) == 2  # against the mean of the baselines, and against LS-unLLaMA
        assert all("[made-up](results/made-up/report.md)" in line for line in claims)


def test_what_is_said_follows_from_the_files(shipped: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    shutil.copytree(shipped, root / "made-up")
    before = overview(find_results(root), "results")
    own, other = (100 * (mean_f1(Results.load(shipped), name) or 0) for name in ("RetrieveAll", "LS-unLLaMA"))
    assert f"RetrieveAll: {own:.1f} F1, {own - other:.1f} above the mean of the baselines ({other:.1f})" in before
    assert "Ahead of LS-unLLaMA" in before
    for path in root.glob("made-up/cells/RetrieveAll.4-languages.250.*/result.json"):
        result = json.loads(path.read_text())
        for scores in result["scores"].values():
            scores["f1"] -= 0.5
        path.write_text(json.dumps(result))
    after = overview(find_results(root), "results")
    assert f"RetrieveAll: {own - 50:.1f} F1, {other - own + 50:.1f} below the mean" in after


@pytest.mark.parametrize(("swapped", "said"), [(False, "Not told apart from LS-unLLaMA: +0.0 F1"), (True, "Behind")])
def test_a_claim_says_no_more_than_the_numbers(made_up: Path, tmp_path: Path, swapped: bool, said: str) -> None:
    """The predictions of the baseline are those of the reference, or the other way round as well."""
    source = Path(shutil.copytree(made_up, tmp_path / "source"))
    for cell in source.glob("cells/RetrieveAll.4-languages.250.s[12].*"):
        seed = cell.name.split(".s")[1][0]
        (twin,) = source.glob(f"cells/LS-unLLaMA.4-languages.250.s{seed}.*")
        theirs = (twin / "predictions.jsonl").read_bytes()
        shutil.copyfile(cell / "predictions.jsonl", twin / "predictions.jsonl")
        if swapped:
            (cell / "predictions.jsonl").write_bytes(theirs)
    for cell in source.glob("cells/RetrieveAll.*.s3.*"):
        shutil.rmtree(cell)
    text = details([source], "results")
    assert said in text
    assert ("The largest difference is in " in text) is swapped


def test_several_benchmarks_and_none(made_up: Path, shipped: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    for name in ("b", "a"):
        shutil.copytree(shipped, root / name)
    assert [path.name for path in find_results(root)] == ["a", "b"]
    assert details(find_results(root), "results").count("### made-up") == 2
    assert overview(find_results(tmp_path / "nothing"), "results") == NONE


def test_a_benchmark_without_the_method_of_this_project_makes_no_claim(made_up: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(made_up, tmp_path / "source"))
    settings = yaml.safe_load((source / "benchmark.yaml").read_text())
    settings["methods"] = [each for each in settings["methods"] if each["kind"] != "retrieveall"]
    (source / "benchmark.yaml").write_text(yaml.safe_dump(settings))
    plan = json.loads((source / "plan.json").read_text())
    plan["cells"] = [name for name in plan["cells"] if name.startswith(("LS", "CRF"))]
    (source / "plan.json").write_text(json.dumps(plan))
    text = details([source], "results")
    assert "to LS-unLLaMA" in text
    assert "\n- " not in text


@pytest.mark.parametrize("name", ["README.md", "docs/benchmark.md"])
def test_documents_say_what_the_shipped_results_are(name: str) -> None:
    root = Path(__file__).parents[2]
    docs = _docs_script(root)
    text = (root / name).read_text(encoding="utf-8")
    assert "<!-- generated: benchmarks " in text
    assert docs.renew(text, name, "benchmarks ") == text, "run: python scripts/docs.py --write"


def test_a_document_goes_stale_with_its_results(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = _docs_script(Path(__file__).parents[2])
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    copy = Path(shutil.copytree(shipped, tmp_path / "benchmarks" / "results" / "made-up"))
    block = "<!-- generated: benchmarks details benchmarks/results -->\n<!-- end -->\n"
    fresh = docs.renew(block, "docs/benchmark.md", "benchmarks ")
    assert "(../benchmarks/results/made-up/report.md)" in fresh
    assert docs.renew(fresh, "docs/benchmark.md", "benchmarks ") == fresh
    path = next(copy.glob("cells/CRF-per-language.de.250.*/result.json"))
    result = json.loads(path.read_text())
    result["cost"]["training_seconds"] *= 3
    path.write_text(json.dumps(result))
    assert docs.renew(fresh, "docs/benchmark.md", "benchmarks ") != fresh


def _docs_script(root: Path) -> Any:
    """``scripts/docs.py`` as a module."""
    spec = importlib.util.spec_from_file_location("docs_script", root / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
