"""``extract --engine ray`` on one small Ray: every row once though a worker is killed, resume, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import number_model
import pytest
from number_model import NumberModel, results
from ray_head import environment, head
from typer.testing import CliRunner, Result

from retrieveall import RetrieveAll
from retrieveall.cli.app import app
from retrieveall.distributed import Job, find_corpus, open_output, run_job
from retrieveall.errors import DataError, EngineError, InputError, MissingExtraError
from retrieveall.types import Prediction

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[data]'")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Ray for all tests, to which this process stays connected; RAY_ADDRESS names one that runs already."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        address = os.environ.get("RAY_ADDRESS")
        if address is None:
            for name, value in environment().items():
                patch.setenv(name, value)
            address = stack.enter_context(head(tmp_path_factory.mktemp("ray")))
        import ray

        for module in (number_model, sys.modules[__name__]):  # workers do not find the modules of the tests
            ray.cloudpickle.register_pickle_by_value(module)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        stack.callback(ray.shutdown)
        yield address


def extract(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["extract", "--engine", "ray", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def job_of(source: Path, out: Path, **options: Any) -> Job:
    corpus, _ = find_corpus(str(source), block_rows=100)
    job = Job(corpus, str(out), batch_size=20, **options)
    open_output(job.output, job.identity())
    return job


class KilledOnce(NumberModel):
    """Its process is killed at a text, once."""

    def __init__(self, text: str, flag: Path) -> None:
        self.text, self.flag = text, flag

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        if self.text in texts and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(texts, **options)


@needs_ray
@pytest.mark.slow
def test_every_row_once_though_a_worker_is_killed_and_a_stopped_run_goes_on(
    address: str, tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    folder = tmp_path / "in"
    write_parquet(folder / "a.parquet", 750)
    (folder / "b.txt").write_text("".join(f"line {n}\n" for n in range(1, 251)))
    model = KilledOnce("row 555", tmp_path / "killed")
    job = job_of(folder, tmp_path / "out")

    def stop(size: int, texts: int) -> None:
        stopped.append(texts)
        if (tmp_path / "killed").exists():
            raise KeyboardInterrupt

    stopped: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run_job(job, workers=2, address=address, open_model=lambda options: model, report=stop)
    begun = results(tmp_path / "out")
    assert 0 < len(begun) < 1000

    reported: list[tuple[int, int]] = []
    job = job_of(folder, tmp_path / "out")
    done = run_job(
        job, workers=2, address=address, open_model=lambda options: model, report=lambda *each: reported.append(each)
    )
    assert sum(stopped) <= done.before < 1000
    assert (done.texts, done.entities) == (1000, 1000)
    assert sum(size for size, _ in reported) == job.corpus.size
    rows = [f"a.parquet:{n}" for n in range(1, 751)] + [f"b.txt:{n}" for n in range(1, 251)]
    found = results(tmp_path / "out")
    assert [result["row_id"] for result in found] == rows
    assert [result["id"] for result in found[:750]] == list(range(1, 751))
    assert not (tmp_path / "out" / "_retrieveall" / "writing").exists()


@needs_ray
@pytest.mark.slow
def test_the_command_gives_what_the_local_engine_gives(
    address: str, tmp_path: Path, tiny_model: Path, corpus: dict[str, list[Any]]
) -> None:
    texts = [sentence.text for sentences in corpus.values() for sentence in sentences[:4]]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"body": text, "id": n}) + "\n" for n, text in enumerate(texts)))
    command = ["-i", source, "-o", tmp_path / "out", "-m", tiny_model, "--ray-address", address, "--workers", 1]
    command += ["--block-rows", 5, "--batch-size", 5]
    missing = extract(*command[:2], "-o", tmp_path / "none", *command[4:])
    assert missing.exit_code == 1
    assert "error: " in missing.stderr
    assert "text" in missing.stderr

    command += ["--text-column", "body"]
    result = extract(*command)
    assert result.exit_code == 0, result.stderr
    model = RetrieveAll.from_pretrained(tiny_model)
    predictions = [each for at in range(0, len(texts), 5) for each in model.predict(texts[at : at + 5])]
    expected = [
        {"id": n, "row_id": f"in.jsonl:{n + 1}", **json.loads(json.dumps(prediction.to_dict()))}
        for n, prediction in enumerate(predictions)
    ]
    assert results(tmp_path / "out") == expected
    entities = sum(len(prediction.entities) for prediction in predictions)
    assert f"{len(texts)} texts, {entities} entities, " in result.stderr
    assert f"written to {tmp_path / 'out'}" in result.stderr
    again = extract(*command)
    assert f"{len(texts)} texts ({len(texts)} of them from the stopped run)" in again.stderr
    other = extract(*command, "--threshold", "0.9")
    assert other.exit_code == 1
    assert "threshold: None then, 0.9 now" in other.stderr
    assert len(other.stderr.splitlines()) == 1


@needs_ray
@pytest.mark.slow
def test_a_file_that_cannot_be_read_ends_the_run_and_keeps_the_others(
    address: str, tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    folder = tmp_path / "in"
    write_parquet(folder / "a.parquet", 50)
    (folder / "b.jsonl").write_text('{"text": "row 1"}\n{"text": 5}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: "):
        run_job(job_of(folder, tmp_path / "out"), workers=1, address=address, open_model=lambda options: NumberModel())
    (folder / "b.jsonl").unlink()
    write_parquet(folder / "c.parquet", 5, column="body")
    with pytest.raises(DataError, match="expected a column 'text'"):
        run_job(job_of(folder, tmp_path / "new"), workers=1, address=address, open_model=lambda options: NumberModel())


def test_no_cluster_at_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        closed = f"127.0.0.1:{taken.getsockname()[1]}"
        job = job_of(write_parquet(tmp_path / "in.parquet", 5), tmp_path / "out")
        with pytest.raises(EngineError, match=rf"expected a Ray cluster at {closed}, got no answer"):
            run_job(job, address=closed)
    for address in ("nowhere", "http://", "host:port"):
        with pytest.raises(InputError, match="HOST:PORT"):
            run_job(job, address=address)


def test_without_ray_the_install_line_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = write_parquet(tmp_path / "in.parquet", 5)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[ray\]'"):
        run_job(job_of(source, tmp_path / "out"))
    result = extract("-i", source, "-o", tmp_path / "new")
    assert result.exit_code == 1
    assert "pip install 'retrieveall[ray]'" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Ada"], "--input"),
        (["-i", "-", "-o", "out"], "--input"),
        (["-i", "in"], "--output"),
        (["-i", "in", "-o", "in/out"], "is in the input"),
        (["-i", "in", "-o", "out", "-f", "csv"], "expected jsonl"),
        (["-i", "in", "-o", "out", "--input-format", "csv"], "Parquet, JSONL, JSON or text"),
        (["-i", "in", "-o", "out", "--whole-file"], "a row per text"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], said: str) -> None:
    result = extract(*arguments)
    assert result.exit_code == 2
    assert said in _unboxed(result)


def test_options_of_ray_need_it() -> None:
    for option in (["--workers", "2"], ["--ray-address", "x:1"], ["--worker-engine", "vllm"], ["--block-rows", "5"]):
        result = CliRunner().invoke(app, ["extract", "Ada", *option])
        assert result.exit_code == 2
        assert "needs --engine ray" in _unboxed(result)


def _unboxed(result: Result) -> str:
    """What a usage error says, without its box and the ends of its lines."""
    return " ".join(result.stderr.replace("│", " ").split())
