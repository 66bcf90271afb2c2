"""Other libraries: what their answers mean, with a program that stands for one of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recipes.measure import peers
from recipes.measure.peers import PEERS, Peer, measure_peer, measure_peers, parse, parse_answer, render_peers, summary
from recipes.measure.running import LABELS, read_running
from recipes.measure.trained import TrainedPeer
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.types import Entity

PROGRAM = """
import sys
sys.path.insert(0, {programs!r})
from peer_protocol import answer

def find(texts):
    assert "retrieveall" not in sys.modules
    for text in texts:
        yield [(0, 2, "GPE"), (0, 2, "DATE")] if text.startswith("서울") else []

answer(find, "fake 1")
"""


@pytest.fixture
def ner(tmp_path: Path) -> Path:
    folder = tmp_path / "ner" / "train" / "ko" / "news"
    folder.mkdir(parents=True)
    lines = "서울에서\tB-LOC\n만났다.\tO\n\n비가\tO\n왔다.\tO\n" + "\n말\tO\n" * 20
    (folder / "validation.tsv").write_text(lines, encoding="utf-8")
    return tmp_path / "ner"


@pytest.fixture
def venvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer of this Python, which runs the program above."""
    (tmp_path / "program.py").write_text(PROGRAM.format(programs=str(peers.PROGRAMS)), encoding="utf-8")
    python = tmp_path / "venvs" / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setitem(PEERS, "fake", Peer("ko", "python3", (), (str(tmp_path / "program.py"),)))
    monkeypatch.setitem(PEERS, "broken", Peer("ko", "python3", (), ("no-such-program.py",)))
    return tmp_path / "venvs"


def test_spans_are_scored_as_those_of_a_model(ner: Path, venvs: Path) -> None:
    found = measure_peer("fake", venvs, read_running(ner))
    score = found["sets"]["ko/news"]
    assert (score["f1"], score["predicted"], score["sentences"]) == (1.0, 1, 22), "서울 is widened to 서울에서"
    assert found["mean"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert found["speed"]["texts"] == 1, "24 tokens make one text of 20"
    assert 1 < found["speed"]["peak_memory_mb"] < 100, "its own, not that of this process"


def test_a_peer_that_fails_does_not_stop_the_others(ner: Path, venvs: Path, tmp_path: Path) -> None:
    args = parse(
        ["--venvs", str(venvs), "--ner", str(ner), "--out", str(tmp_path / "out"), "--peers", "broken", "fake"]
    )
    results = measure_peers(args)
    assert "run with --install first" in results["peers"]["broken"]["error"]
    shown = render_peers(results)
    assert "| fake | ko/news | 22 | 100.0 | 100.0 | 100.0 |" in shown
    assert "| fake | fake 1 |" in shown


def test_answers_are_parsed() -> None:
    printed = '[[0, 3, "PERSON"], [4, 5, "MISC"]]\n[]\n{"version": "1"}\n'
    found, figures = parse_answer(printed, {"PERSON": "PER"}, ["Ada 1", "it"])
    assert found == [[Entity(0, 3, "PER", "Ada")], []]
    assert figures == {"version": "1"}
    with pytest.raises(RetrieveAllError, match="expected 1 answers"):
        parse_answer(printed, {}, ["Ada 1"])


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_labels_of_peers_are_ours(peer: Peer | TrainedPeer) -> None:
    assert set(peer.labels.values()) == set(LABELS)
    assert isinstance(peer, TrainedPeer) or (peers.PROGRAMS / peer.program[0]).is_file()
    json.dumps(dict(peer.labels))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "--venvs"),
        ("--venvs x", "expected --install, --train, or"),
        ("--venvs x --install --ner y", "expected --ner together with"),
        ("--venvs x --out z", "expected --ner together with"),
        ("--venvs x --train --panx p", "expected --ner together with"),
        ("--venvs x --ner y --out z --peers natasha crf-ko", "expected --panx, which crf-ko is trained on"),
    ],
)
def test_the_command_line_needs_something_to_do(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments.split())
    assert said in capsys.readouterr().err


def test_peers_of_earlier_results_are_kept_with_their_origin(ner: Path, venvs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    given = ["--venvs", str(venvs), "--ner", str(ner), "--out", str(out), "--peers", "fake", "--keep", "--limit", "9"]
    assert list(measure_peers(parse(given))["peers"]) == ["fake"], "nothing is there yet"
    earlier = {
        "limit": 9,
        "provenance": {"commit": "a1"},
        "peers": {"gone": {}, "natasha": {"mean": {}}, "fake": {"mean": 7}},
    }
    out.write_text(json.dumps({"format": 1, **earlier}), encoding="utf-8")
    results = measure_peers(parse(given))
    assert list(results["peers"]) == ["natasha", "fake", "gone"], "as they stand in PEERS"
    assert results["peers"]["natasha"] == {"mean": {}, "provenance": {"commit": "a1"}}
    assert results["peers"]["fake"]["mean"]["f1"] == 1.0
    assert results["peers"]["fake"]["provenance"]["commit"] != "a1"
    assert "provenance" not in results
    with pytest.raises(InputError, match=r"expected results with --limit 8 in .*, got 9"):
        measure_peers(parse([*given[:-1], "8"]))


def test_the_summary_says_what_was_trained_on() -> None:
    speed = {"version": "some 1", "texts_per_processor_second": 1234.5, "peak_memory_mb": 66.1}
    ready = {"mean": dict.fromkeys(("f1", "precision", "recall"), 0.5), "languages": {"ko": {}}, "speed": speed}
    trained = ready | {"trained_on": {"sentences": {"panx": 20000, "ko/news": 883}, "processor_seconds": 90}}
    shown = summary({"peers": {"ready": ready, "broken": {"error": "x"}, "trained": trained}}).splitlines()
    assert len(shown) == 4
    assert shown[2] == "| ready | some 1 | ko | 50.0 | 50.0 | 50.0 | 1234 | 66 |  |  |"
    assert shown[3] == "| trained | some 1 | ko | 50.0 | 50.0 | 50.0 | 1234 | 66 | 20,883 | 1.5 |"
