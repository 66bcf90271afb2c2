"""The back end for Label Studio, over its own protocol."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from known_names import KnownNames
from retrieveall.data import read_corpus
from retrieveall.integrations.label_studio import Backend, application, main

CONFIG = """<View><Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels>
<Text name="text" value="$review"/></View>"""
EMOJI = "👋👋 Ada Lovelace in London"  # two code units each in a browser


def task(number: int, text: Any = EMOJI) -> dict[str, Any]:
    return {"id": number, "data": {"review": text}}


def corrected(number: int, *spans: tuple[int, int, str], action: str = "ANNOTATION_CREATED") -> dict[str, Any]:
    result = [{"type": "labels", "value": {"start": a, "end": b, "labels": [label]}} for a, b, label in spans]
    return {
        "action": action,
        "project": {"id": 1, "label_config": CONFIG},
        "task": task(number),
        "annotation": {"result": result},
    }


@pytest.fixture
def commands() -> list[Sequence[str]]:
    return []


@pytest.fixture
def backend(names: KnownNames, tmp_path: Path, commands: list[Sequence[str]]) -> Backend:
    def run(command: Sequence[str]) -> int:
        commands.append(command)
        if len(commands) == 2:
            return 1
        Path(command[-1]).mkdir()
        return 0

    return Backend("base", tmp_path, "en", run)


def test_predictions_count_as_a_browser_does(backend: Backend) -> None:
    body = {"tasks": [task(1), task(2, "none")], "label_config": CONFIG, "project": "1.2"}
    first, second = backend.predict(body)["results"]
    assert [region["value"] for region in first["result"]] == [
        {"start": 5, "end": 17, "text": "Ada Lovelace", "labels": ["PER"]},
        {"start": 21, "end": 27, "text": "London", "labels": ["LOC"]},
    ]
    assert {(region["from_name"], region["to_name"], region["type"]) for region in first["result"]} == {
        ("label", "text", "labels")
    }
    assert (first["score"], first["model_version"]) == (0.5, "base")
    assert second["result"] == []
    units = EMOJI.encode("utf-16-le")
    for region in first["result"]:
        value = region["value"]
        assert units[2 * value["start"] : 2 * value["end"]].decode("utf-16-le") == value["text"]


def test_only_labels_of_the_interface(backend: Backend) -> None:
    config = CONFIG.replace('<Label value="PER"/>', "")
    (found,) = backend.predict({"tasks": [task(1)], "label_config": config})["results"]
    assert [region["value"]["text"] for region in found["result"]] == ["London"]


def test_corrections_are_kept_once_a_task_and_trained_on(
    backend: Backend, commands: list[Sequence[str]], tmp_path: Path
) -> None:
    backend.webhook(corrected(7, (5, 8, "PER")))
    backend.webhook(corrected(8))
    backend.webhook(corrected(7, (21, 27, "LOC"), (5, 17, "PER"), (5, 8, "PER"), action="ANNOTATION_UPDATED"))
    corpus = tmp_path / "data" / "en" / "train.jsonl"
    sentences = list(read_corpus(corpus, language="en"))
    assert [[(e.text, e.label) for e in each.entities] for each in sentences] == [
        [("Ada Lovelace", "PER"), ("London", "LOC")],
        [],
    ]
    assert backend.webhook({"action": "START_TRAINING"}) == {"status": "training"}
    backend.wait()
    assert commands[0][1:6] == ["-m", "retrieveall", "train", str(tmp_path / "data"), "--from"]
    assert backend.version == "model-1"
    backend.train()  # fails: the model that is there goes on
    backend.wait()
    assert backend.version == "model-1"
    assert Backend("base", tmp_path, "en").version == "model-1"


def call(backend: Backend, method: str, path: str, body: bytes = b"", size: int | None = None) -> tuple[str, Any]:
    said: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body) if size is None else size),
        "wsgi.input": io.BytesIO(body),
    }
    parts = application(backend)(environ, lambda status, headers: said.append(status))
    return said[0][:3], json.loads(b"".join(parts))


def test_the_routes(backend: Backend) -> None:
    assert call(backend, "GET", "/health") == ("200", {"status": "UP", "model_class": "base"})
    setup = json.dumps({"schema": CONFIG}).encode()
    assert call(backend, "POST", "/setup", setup) == ("200", {"model_version": "base"})
    body = json.dumps({"tasks": [task(1)], "label_config": CONFIG}).encode()
    assert len(call(backend, "POST", "/predict", body)[1]["results"]) == 1
    assert call(backend, "POST", "/webhook", b'{"action": "PROJECT_UPDATED"}') == ("200", {"status": "ignored"})
    assert call(backend, "GET", "/predict")[0] == "404"


@pytest.mark.parametrize(
    ("body", "size", "status", "part"),
    [
        (b"{", None, "400", ""),
        (b"[]", None, "400", "a JSON object"),
        (b"{}", None, "400", "labelling interface"),
        (b'{"label_config": "<View><Text name=\\"t\\" value=\\"$t\\"/></View>"}', None, "400", "<Labels"),
        (json.dumps({"label_config": CONFIG, "tasks": [task(1, 5)]}).encode(), None, "400", "'review'"),
        (json.dumps({"label_config": CONFIG, "tasks": [5]}).encode(), None, "400", ""),
        (b"", 10**12, "413", "at most"),
    ],
)
def test_bad_requests_are_answered(backend: Backend, body: bytes, size: int | None, status: str, part: str) -> None:
    found, answer = call(backend, "POST", "/predict", body, size)
    assert found == status
    assert part in answer["error"]


def start(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> None:
    arguments = ["label_studio", "--language", "en", "--folder", str(folder), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    main()


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to this process")
def test_an_interrupt_ends_it_quietly(
    names: KnownNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def interrupt() -> None:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        start(monkeypatch, tmp_path, "--port", str(port))  # returns: no KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert f"back end on http://127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["taken", "70000"])
def test_a_place_that_cannot_be_used_is_told(
    names: KnownNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1]) if port == "taken" else port
        with pytest.raises(SystemExit, match=f"error: could not listen on 127.0.0.1:{number}: .*choose another"):
            start(monkeypatch, tmp_path, "--port", number)
