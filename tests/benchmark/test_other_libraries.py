"""Other libraries: our side with a program that stands in for them, and real runs where their environments are.

python -m retrieveall.benchmark.peers environments
RETRIEVEALL_PEERS=environments python -m pytest tests/benchmark/test_other_libraries.py
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from test_methods import benchmark_of, run_all

from retrieveall.benchmark import peers
from retrieveall.benchmark.methods import peer
from retrieveall.benchmark.report import write_report
from retrieveall.benchmark.runner import run_benchmark
from retrieveall.benchmark.worker import load_rows
from retrieveall.errors import ConfigError, RetrieveAllError

PROGRAM = """
import json, sys
verb, *rest, model, options = sys.argv[1:]
options = json.loads(options)
if verb == "train":
    if options["seed"] == 666:
        sys.exit("some library\\ncould not load the model x: none there")
    known = {}
    for line in open(rest[0], encoding="utf-8"):
        each = json.loads(line)
        for first, last, label in each["spans"]:
            known[" ".join(each["words"][first:last])] = label
    import os
    os.makedirs(model)
    json.dump([known, options], open(model + "/known.json", "w"))
    print("a library that talks")
    print(json.dumps({"memory_mb": 4321.0}))
else:
    known, trained_with = json.load(open(model + "/known.json"))
    assert trained_with == options
    for line in sys.stdin:
        spans = [
            [
                [i, j, known[" ".join(words[i:j])], 0.75]
                for i in range(len(words))
                for j in range(i + 1, len(words) + 1)
                if " ".join(words[i:j]) in known
            ]
            for words in (each["words"] for each in json.loads(line))
        ]
        if options["seed"] == 999:
            sys.exit("out of memory")
        print(json.dumps({"spans": spans, "memory_mb": 12.0}), flush=True)
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose programs are ``PROGRAM``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in peers.PEERS:
        (programs / f"{name}_ner.py").write_text(PROGRAM)
    monkeypatch.setattr(peer, "PROGRAMS", programs)
    python = peers.python_of(tmp_path / "environment")
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    return tmp_path / "environment"


def _method(kind: str, environment: Path, backbone: Path) -> dict[str, Any]:
    gliner = {"backbone": str(backbone), "start": "encoder", "epochs": 2, "learning_rate": 1e-3, "max_width": 4}
    return {"kind": kind, "environment": str(environment), **(gliner if kind == "gliner" else {"epochs": 20})}


@pytest.mark.parametrize("kind", sorted(peers.PEERS))
def test_a_peer_is_trained_and_asked(
    corpus_folder: Path, encoder_folder: Path, environment: Path, tmp_path: Path, kind: str
) -> None:
    config = benchmark_of(corpus_folder, encoder_folder, _method(kind, environment, encoder_folder))
    results = run_all(config, tmp_path)
    assert [each["languages"] for each in results] == ([("de", "en")] if kind == "gliner" else [("de",), ("en",)])
    for result in results:
        assert all(scores["f1"] > 0.3 for scores in result["scores"].values())  # mentions that are in train
        assert result["cost"]["peak_memory_mb"] >= 4321.0
        assert result["cost"]["training_processor_seconds"] > 0
        assert "environment" not in result["method"]
    (rows, *_) = (load_rows(path) for path in sorted(tmp_path.glob("method*")))
    assert {each for own in rows.values() for row in own for each in row.probabilities} == {0.75}


def test_options_reach_the_program(
    corpus_folder: Path, encoder_folder: Path, environment: Path, tmp_path: Path
) -> None:
    method = _method("gliner", environment, encoder_folder) | {"names": {"PER": "person"}}
    run_all(benchmark_of(corpus_folder, encoder_folder, method), tmp_path)
    ((_, options),) = (json.loads(path.read_text()) for path in tmp_path.glob("models/*/model/known.json"))
    assert (options["names"], options["labels"]) == ({"PER": "person"}, ["LOC", "ORG", "PER"])
    assert (options["backbone"], options["seed"], options["epochs"]) == (str(encoder_folder), 13, 2)


@pytest.mark.parametrize(("seed", "said"), [(666, "training failed: could not load the model"), (999, "none; its")])
def test_a_program_that_fails_is_one_line(
    corpus_folder: Path, encoder_folder: Path, environment: Path, tmp_path: Path, seed: int, said: str
) -> None:
    method = _method("gliner", environment, encoder_folder)
    with pytest.raises(RetrieveAllError, match=said):
        run_all(benchmark_of(corpus_folder, encoder_folder, method, seeds=[seed]), tmp_path)


def test_a_model_that_is_not_at_hand_needs_weights(
    corpus_folder: Path, encoder_folder: Path, environment: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    spacy, gliner = (_method(kind, environment, encoder_folder) for kind in ("spacy", "gliner"))
    config = benchmark_of(corpus_folder, encoder_folder, spacy, gliner | {"seeds": [666]})
    outcome = run_benchmark(config, tmp_path / "out", jobs=0)
    assert len(outcome.failures) == 1
    assert "method 1: needs weights" in write_report(tmp_path / "out").with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(peers.PEERS))
def test_a_missing_environment_names_the_command(
    corpus_folder: Path, encoder_folder: Path, tmp_path: Path, kind: str
) -> None:
    method = _method(kind, tmp_path / "venvs" / kind, encoder_folder)
    with pytest.raises(ConfigError, match=f"retrieveall.benchmark.peers .*venvs --only {kind}"):
        run_all(benchmark_of(corpus_folder, encoder_folder, method), tmp_path)


def _real(kind: str) -> Path:
    folder = os.environ.get("RETRIEVEALL_PEERS")
    if folder is None or not peers.python_of(Path(folder) / kind).exists():
        pytest.skip(
            f"no environment of {kind}; make one with: python -m retrieveall.benchmark.peers DIR, and set "
            "RETRIEVEALL_PEERS=DIR"
        )
    return (Path(folder) / kind).absolute()


@pytest.fixture
def seen_corpus(corpus_folder: Path, tmp_path: Path) -> Path:
    """Tested on what it was trained on."""
    folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    for language in ("de", "en"):
        shutil.copyfile(folder / language / "train.tsv", folder / language / "test.tsv")
    return folder


def test_spacy_learns(seen_corpus: Path, encoder_folder: Path, tmp_path: Path) -> None:
    method = _method("spacy", _real("spacy"), encoder_folder) | {"epochs": 60}
    results = run_all(benchmark_of(seen_corpus, encoder_folder, method), tmp_path)
    assert all(result["scores"][result["languages"][0]]["f1"] > 0.5 for result in results)


def test_gliner_learns_spans_over_an_encoder_and_goes_on_from_there(
    seen_corpus: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    """Names of labels are beyond a tiny random encoder, spans are not. The second model knows what the first learnt."""
    environment = _real("gliner")
    first = _method("gliner", environment, encoder_folder) | {"epochs": 60, "names": {"PER": "person"}}
    first |= {"learning_rate": 3e-3, "others_learning_rate": 3e-3, "threshold": 0.2}
    run_all(benchmark_of(seen_corpus, encoder_folder, first), tmp_path / "one")
    assert _span_recall(tmp_path / "one") > 0.7
    (model,) = tmp_path.glob("one/models/*/model")
    second = first | {"backbone": str(model), "start": "gliner", "epochs": 1}
    second |= {"learning_rate": 1e-6, "others_learning_rate": 1e-6}
    run_all(benchmark_of(seen_corpus, encoder_folder, second), tmp_path / "two")
    assert _span_recall(tmp_path / "two") == pytest.approx(_span_recall(tmp_path / "one"), abs=0.1)


def _span_recall(folder: Path) -> float:
    """The share of gold entities of which the span was found, whatever its label."""
    (cell,) = folder.glob("method*")
    rows = [row for own in load_rows(cell).values() for row in own]
    found = [span[:2] in {each[:2] for each in row.predicted} for row in rows for span in row.gold]
    return sum(found) / len(found)


def test_a_gliner_model_with_code_of_its_own_is_refused(
    corpus_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    environment = _real("gliner")
    folder = Path(shutil.copytree(encoder_folder, tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "planted", "auto_map": {"AutoConfig": "planted.Config", "AutoModel": "planted.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "planted.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    with pytest.raises(RetrieveAllError):
        run_all(benchmark_of(corpus_folder, encoder_folder, _method("gliner", environment, folder)), tmp_path / "one")
    assert not (tmp_path / "canary").exists()
