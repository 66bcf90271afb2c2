"""A machine-learning back end for Label Studio: predictions for new tasks, training from corrected ones.

    python -m retrieveall.integrations.label_studio --model base --language en --folder label-studio

``Backend`` answers with plain data and knows nothing of HTTP; ``application`` makes a WSGI application of it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from retrieveall.config import check_language
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.pipeline import RetrieveAll
from retrieveall.storage import write_atomic

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from retrieveall.types import Entity

__all__ = ["Backend", "application"]

_MAX_BODY = 64 * 2**20  # bytes
_MAX_CONFIG = 2**20  # characters
_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")

Start = Callable[[Sequence[str]], int]
"""Runs a command to its end and returns its exit code."""


class Backend:
    """Predictions and training for one project, whose texts are in one language.

    Corrected tasks are kept in ``folder/data/{language}/train.jsonl``, one per task. Training makes a new model of all
    of them after ``model``, and predictions come from it when it is done.

    Args:
        model: what ``RetrieveAll.from_pretrained`` opens.
        language: the language of the texts, for training.
        run: runs the command that trains.
    """

    def __init__(self, model: str, folder: Path, language: str, run: Start = subprocess.call) -> None:
        self._base, self._folder, self._run = model, folder, run
        self._corpus = folder / "data" / check_language(language) / "train.jsonl"
        trained = sorted(folder.glob("model-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        self._name = str(trained[-1]) if trained else model
        self._model = RetrieveAll.from_pretrained(self._name)
        self._lock = threading.Lock()
        self._training: threading.Thread | None = None

    @property
    def version(self) -> str:
        """The model that predicts, as Label Studio shows it."""
        return Path(self._name).name

    def setup(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /setup``: check the labelling interface.

        Raises:
            InputError: it has no ``<Labels>`` over a ``<Text>``.
        """
        _interface(str(body.get("schema") or ""))
        return {"model_version": self.version}

    def predict(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /predict``: the entities of each task, with the labels that the interface has.

        Raises:
            InputError: no labelling interface, or tasks without its text.
        """
        interface = _interface(str(body.get("label_config") or ""))
        texts = [_text(task, interface.key) for task in body.get("tasks") or ()]
        with self._lock:
            model, version = self._model, self.version
        wanted = [label for label in model.labels if label in interface.labels]
        predictions = model.predict(texts, labels=wanted)
        return {
            "results": [
                {
                    "result": [interface.region(text, entity) for entity in prediction.entities],
                    "score": min((entity.score or 0.0 for entity in prediction.entities), default=1.0),
                    "model_version": version,
                }
                for text, prediction in zip(texts, predictions, strict=True)
            ]
        }

    def webhook(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /webhook``: keep a corrected task, or train when asked to.

        Raises:
            InputError: an annotation without its task or interface.
        """
        action = body.get("action")
        if action == "START_TRAINING":
            return {"status": self.train()}
        if action in _EVENTS:
            interface = _interface(str((body.get("project") or {}).get("label_config") or ""))
            self._keep(body, interface)
            return {"status": "ok"}
        return {"status": "ignored"}

    def train(self) -> str:
        """Begin to train on the kept tasks, in the background."""
        with self._lock:
            if self._training is not None and self._training.is_alive():
                return "training already"
            self._training = threading.Thread(target=self._fit, daemon=True)
            self._training.start()
        return "training"

    def wait(self) -> None:
        """Until a running training is done."""
        if self._training is not None:
            self._training.join()

    def _fit(self) -> None:
        number = 1 + max((int(path.name.rpartition("-")[2]) for path in self._folder.glob("model-*")), default=0)
        out = self._folder / f"model-{number}"
        made = self._folder / f"new-{number}"
        data = str(self._corpus.parents[1])
        command = [sys.executable, "-m", "retrieveall", "train", data, "--from", self._base, "--out", str(made)]
        if self._run(command) != 0:  # it has said why
            return
        made.rename(out)
        model = RetrieveAll.from_pretrained(out)
        with self._lock:
            self._name, self._model = str(out), model

    def _keep(self, body: Mapping[str, Any], interface: _Interface) -> None:
        task, annotation = body.get("task") or {}, body.get("annotation") or {}
        text = _text(task, interface.key)
        kept = _read(self._corpus)
        identifier = str(task.get("id", ""))
        kept[identifier] = {"id": identifier, "text": text, "entities": interface.spans(text, annotation)}
        lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in kept.values())
        write_atomic(self._corpus, lines.encode("utf-8"))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The kept tasks by their ids."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


class _Interface:
    """The part of a labelling interface that marks spans of a text."""

    def __init__(self, control: str, target: str, key: str, labels: frozenset[str]) -> None:
        self.control, self.target, self.key, self.labels = control, target, key, labels

    def region(self, text: str, entity: Entity) -> dict[str, Any]:
        """An entity in Label Studio's form."""
        value = {
            "start": _units(text, entity.start),
            "end": _units(text, entity.end),
            "text": entity.text,
            "labels": [entity.label],
        }
        return {
            "from_name": self.control,
            "to_name": self.target,
            "type": "labels",
            "value": value,
            "score": entity.score,
        }

    def spans(self, text: str, annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The spans of an annotation, sorted, with offsets in code points; of two that overlap, the first."""
        found: list[dict[str, Any]] = []
        for region in annotation.get("result") or ():
            value = region.get("value") or {}
            if region.get("type") == "labels" and value.get("labels"):
                start, end = (_points(text, int(value[edge])) for edge in ("start", "end"))
                found.append({"start": start, "end": end, "label": str(value["labels"][0])})
        found.sort(key=lambda span: (span["start"], -span["end"]))
        return [span for i, span in enumerate(found) if all(before["end"] <= span["start"] for before in found[:i])]


def _interface(config: str) -> _Interface:
    """The first ``<Labels>`` with its ``<Text>``.

    Raises:
        InputError: there is none.
    """
    try:
        root = ElementTree.fromstring(config[:_MAX_CONFIG])
    except ElementTree.ParseError as error:
        raise InputError(f"expected a labelling interface in XML, got none ({error})") from None
    texts = {each.get("name"): each.get("value") or "" for each in root.iter("Text")}
    for control in root.iter("Labels"):
        name, target = control.get("name"), control.get("toName")
        value = texts.get(target, "")
        if name and target and value.startswith("$"):
            labels = frozenset(label.get("value") or "" for label in control.iter("Label"))
            return _Interface(name, target, value[1:], labels)
    raise InputError(
        'expected a labelling interface with <Labels name="..." toName="text"> and <Text name="text" value="$text"/>'
    )


def _text(task: Mapping[str, Any], key: str) -> str:
    text = (task.get("data") or {}).get(key)
    if not isinstance(text, str):
        raise InputError(
            f"expected a text under {key!r} in the data of task {task.get('id')}, got {type(text).__name__}"
        )
    return text


def _units(text: str, position: int) -> int:
    """A position in UTF-16 code units, as browsers count."""
    return len(text[:position].encode("utf-16-le", "surrogatepass")) // 2


def _points(text: str, units: int) -> int:
    """The position in code points of one in UTF-16 code units."""
    data = text.encode("utf-16-le", "surrogatepass")[: 2 * units]
    return len(data.decode("utf-16-le", "surrogatepass"))


def application(backend: Backend) -> Callable[..., Iterable[bytes]]:
    """A WSGI application; bad requests are answered with 400 and the reason."""
    posts = {"/predict": backend.predict, "/setup": backend.setup, "/webhook": backend.webhook}

    def answer(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD")
        if method == "GET" and path in ("/", "/health"):
            status, body = "200 OK", {"status": "UP", "model_class": backend.version}
        elif method == "POST" and path in posts:
            status, body = _answer(posts[path], environ)
        else:
            status, body = "404 Not Found", {"error": "expected /health, /setup, /predict or /webhook"}
        data = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    return answer


def _answer(
    handle: Callable[[Mapping[str, Any]], dict[str, Any]], environ: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    try:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if size > _MAX_BODY:
            return "413 Content Too Large", {"error": f"expected at most {_MAX_BODY:,} bytes, got {size:,}"}
        body = json.loads(environ["wsgi.input"].read(size) or b"{}")
        if not isinstance(body, dict):
            return "400 Bad Request", {"error": f"expected a JSON object, got {type(body).__name__}"}
        return "200 OK", handle(body)
    except (RetrieveAllError, ValueError, KeyError, TypeError, AttributeError) as error:
        return "400 Bad Request", {"error": " ".join(str(error).split())[:500]}


def main() -> None:
    """Serve on the loopback address, one request at a time."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m retrieveall.integrations.label_studio", description=main.__doc__)
    parser.add_argument("--model", default="base", help="name of a shipped model, a folder or a hub id")
    parser.add_argument("--language", required=True, help="language of the texts, such as en")
    parser.add_argument("--folder", type=Path, required=True, help="for corrected tasks and trained models")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9090)
    options = parser.parse_args()
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        backend = Backend(options.model, options.folder, options.language)
        with _listening(options.host, options.port, application(backend)) as server:
            print(f"Label Studio back end on http://{options.host}:{server.server_port}", file=sys.stderr, flush=True)
            with _stopped_by_interrupt(server):
                server.serve_forever()
    except (RetrieveAllError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:  # while the model was opened
        pass


@contextmanager
def _stopped_by_interrupt(server: WSGIServer) -> Iterator[None]:
    """Ctrl-C ends the server after the request in progress; wsgiref would swallow an exception."""

    def stop(*_: object) -> None:
        threading.Thread(
            target=server.shutdown, daemon=True
        ).start()  # it waits for the loop, which runs in this thread

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _listening(host: str, port: int, answer: Callable[..., Iterable[bytes]]) -> WSGIServer:
    from wsgiref.simple_server import make_server

    try:
        return make_server(host, port, answer)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"could not listen on {host}:{port}: {reason}; choose another --host or --port") from None


if __name__ == "__main__":
    main()
