"""Every row once: a corpus of Parquet through ``extract --engine ray``'s engine, with a worker killed in the middle.

    python -m benchmarks.ray_rows --rows 1000000 --workers 1 2          # with a stub for the model
    python -m benchmarks.ray_rows --rows 2000 --workers 1 2 --model mini

Writes a corpus of numbered rows to a temporary folder, predicts it once per number of workers, kills one worker when a
third of the blocks is done (``--no-kill``: none), compares the ``row_id`` of the results with the rows of the corpus
one by one, and prints one JSON object per run: rows, workers killed, rows that are missing, doubled or
different, seconds and rows a second.

Without ``--model``, the model is a stub that finds capitalised words by a regular expression. It shows what the engine
does with rows, and costs next to nothing: its rows a second are those of reading, writing and Ray, not of a model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from retrieveall.distributed import Job, ModelOptions, find_corpus, open_output, run_job
from retrieveall.types import Entity, Knowledge, Prediction, Route

NAMES = ("Ada Lovelace", "Angela Merkel", "Юрий Гагарин", "李白", "세종대왕", "Gabriel García Márquez")
FILES = 8
GROUP = 20_000  # rows of a row group


class Stub:
    """Capitalised words are names. No model; see the module."""

    def __init__(self, folder: Path) -> None:
        (folder / f"{os.getpid()}.pid").touch()  # of a process that may be killed

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Prediction:
        found = tuple(Entity(m.start(), m.end(), "NAME", m.group()) for m in re.finditer(r"[A-ZА-Я]\w+", text))
        return Prediction(text, found, Route({}, {}, "fallback"), Knowledge())


class Real:
    """A model of the library."""

    def __init__(self, options: ModelOptions, folder: Path) -> None:
        from retrieveall import RetrieveAll

        self._model = RetrieveAll.from_pretrained(options.name)
        (folder / f"{os.getpid()}.pid").touch()

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        return self._model.predict(texts, **options)


def write_corpus(folder: Path, rows: int) -> None:
    """``rows`` numbered rows in a few files."""
    folder.mkdir()
    bounds = [rows * file // FILES for file in range(FILES + 1)]
    for file, (first, last) in enumerate(zip(bounds, bounds[1:], strict=False)):
        ids = range(first, last)
        table = pyarrow.table({"id": list(ids), "text": [text_of(number) for number in ids]})
        parquet.write_table(table, folder / f"{file}.parquet", row_group_size=GROUP)


def text_of(number: int) -> str:
    return f"Row {number} was written by {NAMES[number % len(NAMES)]} in London."


class Killer:
    """Kills a worker when enough of the corpus is done."""

    def __init__(self, pids: Path, after: int) -> None:
        self._pids, self._after, self._done, self.killed = pids, after, 0, 0

    def __call__(self, size: int, texts: int) -> None:
        self._done += size
        if not self.killed and self._done >= self._after:
            for file in sorted(self._pids.iterdir()):
                with_it = int(file.stem)
                if _is_worker(with_it):
                    os.kill(with_it, signal.SIGKILL)
                    self.killed = 1
                    return


def _is_worker(pid: int) -> bool:
    """Whether the process is one of Ray's, which name themselves."""
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def check(corpus: Path, results: Path) -> dict[str, int]:
    """Compare the results with the corpus, file by file."""
    counts = {"missing": 0, "twice": 0, "different": 0}
    for number, file in enumerate(sorted(corpus.iterdir())):
        ids = parquet.read_table(file, columns=["id"])["id"].to_pylist()
        seen = [0] * len(ids)
        for result in _results(results, number):
            row = int(result["row_id"].removeprefix(f"{file.name}:")) - 1
            seen[row] += 1
            counts["different"] += result["id"] != ids[row] or result["text"] != text_of(ids[row])
        counts["missing"] += seen.count(0)
        counts["twice"] += sum(count > 1 for count in seen)
    return counts


def _results(folder: Path, file: int) -> Iterator[dict[str, Any]]:
    for part in sorted(folder.glob(f"part-{file:06d}-*.jsonl")):
        with part.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def measure(folder: Path, rows: int, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run over the corpus."""
    pids, results = folder / f"pids-{workers}", folder / f"results-{workers}"
    pids.mkdir()
    corpus, _ = find_corpus(str(folder / "corpus"), block_rows=options.block_rows)
    job = Job(corpus, str(results), ModelOptions(options.model or "stub"))
    open_output(job.output, job.identity())
    killer = Killer(pids, corpus.size // 3 if options.kill else corpus.size + 1)
    real = options.model is not None
    started = time.monotonic()
    done = run_job(
        job,
        workers=workers,
        address=options.ray_address,
        open_model=lambda model: Real(model, pids) if real else Stub(pids),
        report=killer,
    )
    seconds = time.monotonic() - started
    said = {"rows": rows, "workers": workers, "model": options.model or "stub", "killed": killer.killed}
    said |= {"results": done.texts, **check(folder / "corpus", results), "seconds": round(seconds, 1)}
    return said | {"rows_per_second": round(rows / seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--block-rows", type=int, default=5000)
    parser.add_argument("--model", help="a model of the library instead of the stub")
    parser.add_argument("--ray-address", help="a cluster; default: Ray is started here for each run")
    parser.add_argument("--no-kill", dest="kill", action="store_false")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus", options.rows)
        runs = [measure(folder, options.rows, workers, options) for workers in options.workers]
    for run in runs:
        print(json.dumps(run))
    if any(run["missing"] or run["twice"] or run["different"] for run in runs):
        sys.exit(1)


if __name__ == "__main__":
    main()
