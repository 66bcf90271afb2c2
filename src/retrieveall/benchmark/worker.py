"""One cell in a process of its own: ``python -m retrieveall.benchmark.worker CONFIG CELL``.

Trains, predicts, and writes ``predictions.jsonl`` and then ``result.json`` into the cell's folder. A result is written
last, so a cell without one is not finished. Predictions hold offsets and no text: corpora stay where they are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from retrieveall.benchmark.cells import Cell
from retrieveall.benchmark.corpora import Corpus, Gold, read_corpora
from retrieveall.benchmark.methods import Found, Job, PreparedRunner, Runner, make_runner
from retrieveall.benchmark.saved import read_saved, read_saved_lines
from retrieveall.benchmark.scores import Row, summary
from retrieveall.benchmark.settings import BenchmarkConfig, RetrieveAllMethod, TrainedMethod
from retrieveall.config import LabelConfig, load_yaml
from retrieveall.data import normalise
from retrieveall.errors import RetrieveAllError
from retrieveall.evaluation import Provenance, peak_memory, widen
from retrieveall.evaluation.evaluator import _TOKEN as TOKEN
from retrieveall.storage import write_atomic
from retrieveall.training.data import Progress

__all__ = [
    "PACKED",
    "RESULT",
    "dump_rows",
    "is_prepared",
    "is_trained",
    "load_cell",
    "load_rows",
    "model_folder",
    "prepare_cell",
    "run_cell",
    "save_cell",
]

CELL, RESULT, PREDICTIONS, FAILED = "cell.json", "result.json", "predictions.jsonl", "failed.txt"
PACKED = "predictions.jsonl.xz"  # in results that are published
_TRAINED, _SECONDS, _PREPARED = "trained.json", "seconds.json", "prepared.json"
_BATCH = 256
_ROW = tuple(field.name for field in fields(Row))


def save_cell(cell: Cell, labels: Sequence[LabelConfig], folder: Path, models: Path) -> None:
    """Write what the process of the cell has to know."""
    said = {
        "method": cell.method.name,
        "languages": cell.languages,
        "sizes": dict(cell.sizes),
        "seed": cell.seed,
        "key": cell.key,
        "training_key": cell.training_key,
        "labels": [label.model_dump() for label in labels],
        "models": str(models),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / CELL, json.dumps(said, ensure_ascii=False, indent=1).encode())


def load_cell(config: BenchmarkConfig, folder: Path) -> tuple[Cell, tuple[LabelConfig, ...], Path]:
    """A cell, its labels and the folder of trained models, as ``save_cell`` wrote them."""
    said = read_saved(folder / CELL, "method", "languages", "sizes", "seed", "key", "training_key", "labels", "models")
    method = next(each for each in config.methods if each.name == said["method"])
    cell = Cell(method, tuple(said["languages"]), said["sizes"], said["seed"], said["key"], said["training_key"])
    return cell, tuple(LabelConfig(**label) for label in said["labels"]), Path(said["models"])


def run_cell(config: BenchmarkConfig, folder: Path, *, device: str | None = None) -> dict[str, Any]:
    """Run the cell in ``folder`` and return its result.

    Raises:
        RetrieveAllError: whatever its method raises.
    """
    job, cell = _open_job(config, folder, device)
    corpora = job.corpora
    runner = make_runner(job)
    training = _train(runner, job.folder)
    runner.open()
    try:
        predicting, found = _predict(runner, corpora)
    finally:
        runner.close()
    rows = {language: rows_of(corpora[language], own) for language, own in found.items()}
    write_atomic(folder / PREDICTIONS, dump_rows(rows))
    sentences = sum(map(len, rows.values()))
    result = {
        "format": 1,
        "benchmark": config.name,
        "method": {"name": cell.method.name, **cell.method.model_dump(mode="json", exclude={"name", "environment"})},
        "languages": cell.languages,
        "sizes": dict(cell.sizes),
        "seed": cell.seed,
        "key": cell.key,
        "backbone": None if job.backbone is None else _named(job.backbone.model_dump(exclude_none=True)),
        "training": None if job.training is None else job.training.model_dump(mode="json", exclude_unset=True),
        "scores": {language: summary(own) for language, own in rows.items()},
        "cost": {
            "training_seconds": round(training["seconds"], 2),
            "training_processor_seconds": round(training["processor_seconds"], 2),
            "predicting_seconds": round(predicting, 2),
            "sentences": sentences,
            "sentences_per_second": round(sentences / predicting, 2) if predicting else None,
            "peak_memory_mb": _largest(peak_memory(), training["peak_memory_mb"], runner.memory_mb),
            "gpu_memory_mb": _gpu_memory(),
            "trained_mb": round(runner.trained_bytes() / 1e6, 3),
        },
        "model_fingerprint": cell.training_key,
        "provenance": asdict(Provenance.collect()),
    }
    write_atomic(folder / RESULT, json.dumps(result, ensure_ascii=False, indent=1).encode() + b"\n")
    return result


def prepare_cell(config: BenchmarkConfig, folder: Path, progress: Progress | None = None) -> None:
    """Do what comes before the training of the cell in ``folder`` and needs no GPU, unless it is done.

    Raises:
        RetrieveAllError: whatever its method raises.
    """
    job, _ = _open_job(config, folder, "cpu")
    if not is_trained(job.folder):
        runner = make_runner(job)
        assert isinstance(runner, PreparedRunner)  # its method says so
        with stopwatch(job.folder / _SECONDS):
            runner.prepare(progress)
            write_atomic(job.folder / _PREPARED, b"{}")


def model_folder(models: Path, cell: Cell) -> Path:
    """Where the trained model of a cell is, under the folder of all."""
    return models / cell.training_key[:16]


def is_prepared(folder: Path) -> bool:
    """Whether what comes before the training of the model in ``folder`` was done beforehand."""
    return (folder / _PREPARED).is_file()


def is_trained(folder: Path) -> bool:
    """Whether the training of the model in ``folder`` is finished."""
    return (folder / _TRAINED).is_file()


def _open_job(config: BenchmarkConfig, folder: Path, device: str | None) -> tuple[Job, Cell]:
    """The job of the cell in ``folder``, with its corpora."""
    cell, labels, models = load_cell(config, folder)
    # Sizes of the cell, whatever the settings say of others.
    data = config.data.model_copy(update={"train": dict(cell.sizes)})
    corpora = {corpus.language: corpus for corpus in read_corpora(data, languages=cell.languages)}
    job = make_job(config, cell, labels, corpora, model_folder(models, cell), device)
    job.folder.mkdir(parents=True, exist_ok=True)
    return job, cell


def make_job(
    config: BenchmarkConfig,
    cell: Cell,
    labels: tuple[LabelConfig, ...],
    corpora: Mapping[str, Corpus],
    folder: Path,
    device: str | None = None,
) -> Job:
    """What the method of a cell gets."""
    method: Any = cell.method
    training = None
    if isinstance(method, TrainedMethod):
        training = method.training_config(config.common_training(method), cell.seed)
    model = config.model_settings(method) if isinstance(method, RetrieveAllMethod) else None
    backbone = config.backbone_of(method)
    return Job(method, corpora, labels, cell.seed, folder, backbone, training, model, config.at_least, device)


def _train(runner: Runner, folder: Path) -> dict[str, Any]:
    """Train unless that was done before; returns its cost, over all interruptions."""
    done = folder / _TRAINED
    if is_trained(folder):
        return read_saved(done)
    with stopwatch(folder / _SECONDS) as spent:
        runner.fit()
    cost = spent | {"peak_memory_mb": _largest(peak_memory(), runner.memory_mb)}
    write_atomic(done, json.dumps(cost).encode())
    shutil.rmtree(folder / "run", ignore_errors=True)
    return cost


def processor_seconds() -> float:
    """Of this process, and of those that it started and that have ended: peers run in processes of their own."""
    return sum(os.times()[:4])


@contextmanager
def stopwatch(path: Path, every: float = 5.0) -> Iterator[dict[str, float]]:
    """Wall and processor seconds of what is inside, added to those in ``path``, which is kept up to date.

    So that a training that was killed and resumed has the time of both parts.
    """
    try:
        before = json.loads(path.read_bytes())
    except (OSError, ValueError):
        before = {"seconds": 0.0, "processor_seconds": 0.0}
    wall, busy = time.perf_counter(), processor_seconds()
    spent: dict[str, float] = {}

    def write() -> None:
        spent["seconds"] = before["seconds"] + time.perf_counter() - wall
        spent["processor_seconds"] = before["processor_seconds"] + processor_seconds() - busy
        write_atomic(path, json.dumps(spent).encode())

    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(every):
            write()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        stop.set()
        thread.join()
        write()


def _predict(runner: Runner, corpora: Mapping[str, Corpus]) -> tuple[float, dict[str, list[Found]]]:
    """Seconds, after a warm-up, and what was found in the test sentences of each language."""
    found: dict[str, list[Found]] = {}
    first = next(iter(corpora.values()))
    runner.predict(first.language, [each.text for each in first.test_sentences[:2]])
    started = time.perf_counter()
    for language, corpus in corpora.items():
        texts = [sentence.text for sentence in corpus.test_sentences]
        found[language] = [
            each
            for start in range(0, len(texts), _BATCH)
            for each in runner.predict(language, texts[start : start + _BATCH])
        ]
    return time.perf_counter() - started, found


def rows_of(corpus: Corpus, found: Sequence[Found]) -> list[Row]:
    """Gold and predicted spans of the test sentences of a language; predictions as its corpus marks entities."""
    known = corpus.knowledge
    texts = {normalise(sentence.text).text for sentence in known}
    mentions = {entity.text.casefold() for sentence in known for entity in sentence.entities}
    return [_row(gold, own, corpus, texts, mentions) for gold, own in zip(corpus.test, found, strict=True)]


def _row(gold: Gold, found: Found, corpus: Corpus, texts: set[str], mentions: set[str]) -> Row:
    text, entities = gold.sentence.text, gold.sentence.entities
    spans = [(each.start, each.end, each.label) for each in found.entities]
    if corpus.tokens:
        spans = widen(spans, [match.span() for match in TOKEN.finditer(text)])
    # Two that became one by widening are one, with the probability of the first.
    scores: dict[tuple[int, int, str], float | None] = {}
    for span, entity in zip(spans, found.entities, strict=True):
        scores.setdefault(span, entity.score)
    known = [score for score in scores.values() if score is not None]
    return Row(
        gold=tuple((each.start, each.end, each.label) for each in entities),
        predicted=tuple(scores),
        well_formed=gold.well_formed,
        seen=tuple(each.text.casefold() in mentions for each in entities),
        in_train=normalise(text).text in texts,
        probabilities=tuple(known) if len(known) == len(scores) else (),
        routed=found.routed,
    )


def dump_rows(rows: Mapping[str, Sequence[Row]]) -> bytes:
    """The predictions of a cell, a JSON line each; ``load_rows`` reads them."""
    lines = []
    for language, own in rows.items():
        for row in own:
            values = asdict(row) | {"probabilities": [round(each, 4) for each in row.probabilities]}
            lines.append(json.dumps({"language": language, **values}))
    return "\n".join(lines).encode() + b"\n"


def load_rows(folder: Path) -> dict[str, list[Row]]:
    """The predictions of a finished cell by language; empty where they were not published with it."""
    rows: dict[str, list[Row]] = {}
    path = next((folder / name for name in (PREDICTIONS, PACKED) if (folder / name).is_file()), None)
    for values in () if path is None else read_saved_lines(path, "language", *_ROW):
        rows.setdefault(values.pop("language"), []).append(
            Row(
                gold=tuple((s, e, label) for s, e, label in values["gold"]),
                predicted=tuple((s, e, label) for s, e, label in values["predicted"]),
                well_formed=tuple(values["well_formed"]),
                seen=tuple(values["seen"]),
                in_train=values["in_train"],
                probabilities=tuple(values["probabilities"]),
                routed=values["routed"],
            )
        )
    return rows


def _named(backbone: dict[str, Any]) -> dict[str, Any]:
    """Without the directories of a local backbone."""
    path = Path(backbone["path"])
    return backbone | {"path": path.name if path.is_absolute() else backbone["path"]}


def _largest(*values: float | None) -> float | None:
    return max(filter(None, values), default=None)


def _gpu_memory() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return round(float(torch.cuda.max_memory_allocated()) / 1e6, 1)


def _end_with_parent(every: float = 2.0) -> None:
    """End this process when the one that started it has gone: nothing else would stop a cell of a killed benchmark."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one cell; 1, and the reason in one line, if it failed."""
    config_path, folder = map(Path, sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _end_with_parent()
    try:
        config = load_yaml(BenchmarkConfig, config_path)
        run_cell(config, folder)
    except (RetrieveAllError, OSError) as error:
        write_atomic(folder / FAILED, " ".join(str(error).split()).encode())
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
