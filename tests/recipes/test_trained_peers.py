"""Peers that are trained here: a CRF and spaCy, the latter also with a program that stands for it.

python -m retrieveall.benchmark.peers environments --only spacy
RETRIEVEALL_PEERS=environments python -m pytest tests/recipes/test_trained_peers.py
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from recipes.base.corpora import Corpora
from recipes.measure import trained
from recipes.measure.peers import PEERS, measure_peer, parse_answer
from recipes.measure.running import read_running
from recipes.measure.trained import NOTE, TrainedPeer, Training
from retrieveall.benchmark import peers as environments
from retrieveall.benchmark.methods import peer
from retrieveall.errors import RetrieveAllError

NAMES = ["서울", "부산", "인천", "대전", "광주", "울산"]
PROGRAM = """
import json, os, sys
verb, *rest, model, options = sys.argv[1:]
options = json.loads(options)
if verb == "train":
    os.makedirs(model)
    given = [json.loads(line) for line in open(rest[0], encoding="utf-8")]
    known = sorted({"".join(each["words"][i:j]) for each in given for i, j, label in each["spans"]})
    json.dump([known, options], open(model + "/known.json", "w"))
    print(json.dumps({"memory_mb": 300.0, "epochs": 2.5, "held_out_f1": 0.5}))
else:
    known, _ = json.load(open(model + "/known.json"))
    for line in sys.stdin:
        sum(range(10**6))  # some work
        spans = [[[i, i + 1, "LOC"] for i, w in enumerate(each["words"]) if w in known] for each in json.loads(line)]
        print(json.dumps({"spans": spans, "memory_mb": 400.0}), flush=True)
"""


def _tagged(names: list[str]) -> str:
    """Korean sentences whose names are tagged with their particles, and a full stop that stands apart."""
    rows = []
    for name in names:
        rows.append(f"{name}에서\tB-LOC\n우리는\tO\n만났다\tO\n.\tO\n")
        rows.append(f"우리는\tO\n{name}까지\tB-LOC\n갔다\tO\n.\tO\n")
    return "\n".join(rows * 3)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """PAN-X and one corpus of running text in Korean, with 36 and 24 sentences to train on."""
    for folder, names in (("panx/ko", NAMES), ("ner/train/ko/news", NAMES[2:])):
        path = tmp_path / folder
        path.mkdir(parents=True)
        (path / "train.tsv").write_text(_tagged(names), encoding="utf-8")
        (path / "validation.tsv").write_text(_tagged(names[:4]), encoding="utf-8")
    return Training(tmp_path / "ner", tmp_path / "panx", tmp_path / "models", sentences=0, minutes=0.05)


@pytest.fixture
def venvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of spaCy whose program is ``PROGRAM``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "spacy_ner.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setattr(peer, "PROGRAMS", programs)
    python = environments.python_of(tmp_path / "venvs" / "spacy")
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    return tmp_path / "venvs"


def test_every_language_has_both() -> None:
    assert {name for name, each in PEERS.items() if isinstance(each, TrainedPeer)} == {
        f"{kind}-{language}"
        for kind in ("crf", "spacy-trained")
        for language in ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
    }


def test_sentences_are_raw_text_with_names_without_particles(training: Training) -> None:
    data = Corpora(training.panx, training.ner / "train", ("ko",))
    sentences = trained._sentences(data, "ko", 0)
    assert len(sentences) == 60
    assert {each.text[-4:] for each in sentences} == {"만났다.", " 갔다."}, "nothing stands before a full stop"
    assert {entity.text for each in sentences for entity in each.entities} == set(NAMES)
    few = trained._sentences(data, "ko", 5)
    assert sorted(each.id.partition(":")[0] for each in few if each.id) == ["ko/news"] * 5 + ["panx"] * 5
    assert few == trained._sentences(data, "ko", 5)


def test_a_crf_is_trained_once_and_measured(training: Training, tmp_path: Path) -> None:
    pytest.importorskip("pycrfsuite", reason="pip install 'retrieveall[benchmark]'")
    sets = read_running(training.ner)
    found = measure_peer("crf-ko", tmp_path / "venvs", sets, training)
    assert found["mean"]["f1"] > 0.9
    assert found["trained_on"]["sentences"] == {"ko/news": 24, "panx": 36}
    assert found["trained_on"]["settings"]["kind"] == "crf"
    assert found["speed"]["version"].startswith("python-crfsuite ")
    assert 1 < found["speed"]["peak_memory_mb"] < 400, "without torch"
    assert str(tmp_path) not in json.dumps(found)
    (model,) = training.models.glob("crf-ko-*/ko.crfsuite")
    made = model.stat().st_mtime_ns
    assert measure_peer("crf-ko", tmp_path / "venvs", sets, training)["mean"] == found["mean"]
    assert model.stat().st_mtime_ns == made


def test_a_training_that_was_killed_begins_anew(training: Training, tmp_path: Path) -> None:
    pytest.importorskip("pycrfsuite", reason="pip install 'retrieveall[benchmark]'")
    peer = TrainedPeer("ko", "crf")
    folder = peer.train(tmp_path, training)
    for path in folder.iterdir():
        path.unlink()
    (folder / "ko.crfsuite").write_bytes(b"lCRF half of it")
    (folder / "model").mkdir()
    (folder / "model" / "left").touch()
    assert peer.train(tmp_path, training) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["done.json", "ko.crfsuite", NOTE]
    assert (folder / "ko.crfsuite").stat().st_size > 1000


def test_another_library_is_trained_and_asked(
    training: Training, venvs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = TrainedPeer("ko", "spacy").train(venvs, training)
    note = json.loads((folder / NOTE).read_bytes())
    assert (note["epochs"], note["held_out_f1"], note["settings"]["minutes"]) == (2.5, 0.5, 0.05)
    assert "environment" not in note["settings"]
    known, options = json.loads((folder / "model" / "known.json").read_bytes())
    assert known == sorted(NAMES), "names are words of their own, apart from their particles"
    assert (options["minutes"], options["held_out"]) == (0.05, 0.05)
    capsys.readouterr()
    texts = ["부산에서 만났다.", "아니다."]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(text) + "\n" for text in texts)))
    trained.run("spacy", "ko", folder, venvs / "spacy")
    found, figures = parse_answer(capsys.readouterr().out, TrainedPeer("ko", "spacy").labels, texts)
    assert [[(each.text, each.label) for each in own] for own in found] == [[("부산", "LOC")], []]
    assert figures["peak_memory_mb"] > 400, "both processes"
    assert figures["processor_seconds"] > 0
    assert figures["version"].startswith("spaCy ")


def test_a_library_that_is_missing_is_named(training: Training, tmp_path: Path) -> None:
    with pytest.raises(RetrieveAllError, match=r"expected an environment at .*spacy, found none; run with --install"):
        TrainedPeer("ko", "spacy").train(tmp_path, training)


def test_spacy_learns(training: Training) -> None:
    folder = os.environ.get("RETRIEVEALL_PEERS")
    if folder is None or not environments.python_of(Path(folder) / "spacy").exists():
        pytest.skip(
            "no environment of spacy; make one with: python -m retrieveall.benchmark.peers DIR --only spacy, and set "
            "RETRIEVEALL_PEERS=DIR"
        )
    found = measure_peer("spacy-trained-ko", Path(folder), read_running(training.ner), training)
    assert found["mean"]["f1"] > 0.5
    assert 0 < found["trained_on"]["kept_epoch"] <= found["trained_on"]["epochs"] + 1
    assert found["trained_on"]["processor_seconds"] < 30
