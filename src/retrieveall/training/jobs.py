"""A large pool of languages as independent jobs, an adapter each: on Ray, or one after the other in this process.

A job trains one language in a run folder of its own and hands back the adapter's files; it never writes to the model
folder. One writer, the process that started the jobs, puts each adapter there as it comes, a transaction a language.
A language that fails costs no other one. Started again, only what is missing is trained, and what was interrupted goes
on from its checkpoint. The workers must reach the model folder, and the run folder where a job may move to another
machine: a file system that all of them mount.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from retrieveall.adapters import AdapterPool
from retrieveall.config import TrainingConfig
from retrieveall.errors import LanguageError, ModelFolderError, RetrieveAllError
from retrieveall.model_folder import ADAPTERS, ModelFolder
from retrieveall.ray_session import connected, import_ray, ray_address
from retrieveall.storage import Manifest, Transaction, write_atomic
from retrieveall.training.data import LanguageData, digest
from retrieveall.training.run import Training, settings_for

__all__ = ["Executor", "InProcess", "Job", "Outcome", "PoolResult", "RayExecutor", "run_job", "train_pool"]

_INSTALLED = "installed.json"
_WEIGHTS = "adapter_model.safetensors"
_OPEN_TRIES = 5


@dataclass(frozen=True)
class Job:
    """What it takes to train one language."""

    folder: Path
    language: str
    data: LanguageData
    config: TrainingConfig
    run_folder: Path
    device: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The files of a trained adapter by name, and its validation F1, 0 to 1, where there was something to validate."""

    files: Mapping[str, bytes]
    f1: float | None


class Executor(Protocol):
    """Runs jobs somewhere."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome | str]]:
        """Each job with its outcome, or with what went wrong as one line, in the order in which they finish."""
        ...


@dataclass(frozen=True)
class PoolResult:
    """``scores`` by language, ``failures`` with one line each, and the languages that a run before had trained."""

    scores: Mapping[str, float | None]
    failures: Mapping[str, str]
    kept: tuple[str, ...]


def train_pool(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    executor: Executor,
    *,
    device: str | None = None,
    report: Callable[[str, float | None], None] | None = None,
) -> PoolResult:
    """Train every language of ``data`` as a job of its own and put the adapters into the model folder as they come.

    Args:
        report: called with each language and its F1 once its adapter is in the folder.

    Raises:
        LanguageError: a language without knowledge in the folder; nothing was started.
        MissingExtraError: as the executor.
    """
    model = ModelFolder.open(folder)
    missing = sorted(set(data) - set(model.knowledge().languages))
    if missing:
        raise LanguageError(f"no knowledge of {missing[0]!r} in the model; add it with: retrieveall add-language")
    jobs = [
        Job(model.path, language, own, config, run_folder / language, device) for language, own in sorted(data.items())
    ]
    records = Manifest.load(model.path).files.items()
    trained_on = {name: record.sha256 for name, record in records if not name.startswith(f"{ADAPTERS}/")}
    keys = {job.language: _key(job, trained_on) for job in jobs}
    scores: dict[str, float | None] = {}
    failures: dict[str, str] = {}
    kept = {job.language: said for job in jobs if (said := _installed(job, keys[job.language])) is not None}
    scores.update((language, said["f1"]) for language, said in kept.items())
    for job, outcome in executor.run([job for job in jobs if job.language not in kept]):
        if isinstance(outcome, str):
            failures[job.language] = outcome
            continue
        try:
            _install(job, outcome, keys[job.language])
        except RetrieveAllError as error:
            failures[job.language] = str(error)
            continue
        scores[job.language] = outcome.f1
        if report is not None:
            report(job.language, outcome.f1)
    return PoolResult(dict(sorted(scores.items())), dict(sorted(failures.items())), tuple(sorted(kept)))


def run_job(job: Job) -> Outcome:
    """Train one language; what it leaves is in ``job.run_folder`` only."""
    model = _open(job.folder)
    config = settings_for(job.config, len(job.data.train))
    training = Training(model, model.knowledge(), {job.language: job.data}, config, job.run_folder, job.device)
    fitted = training.fit(None, False)
    made = job.run_folder / "adapter"
    made.mkdir(exist_ok=True)
    fitted.save(lambda _: made)
    return Outcome({path.name: path.read_bytes() for path in sorted(made.iterdir())}, fitted.scores.get(job.language))


def _attempt(job: Job) -> Outcome | str:
    try:
        return run_job(job)
    except RetrieveAllError as error:
        return str(error)
    except Exception as error:  # whatever it is, the other languages go on
        return _one_line(error)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__


def _open(folder: Path) -> ModelFolder:
    """The model as it is, its sizes checked; the checksums were compared before the jobs began.

    The writer may be putting another language's adapter in place this very moment, so that files and manifest differ.
    """
    for _ in range(_OPEN_TRIES - 1):
        try:
            return ModelFolder.open(folder, verify=False)
        except ModelFolderError:
            time.sleep(1.0)
    return ModelFolder.open(folder, verify=False)


def _install(job: Job, outcome: Outcome, key: str) -> None:
    with Transaction(job.folder) as transaction:
        target = transaction.replace_folder(f"{ADAPTERS}/{job.language}")
        for name, content in outcome.files.items():
            write_atomic(target / name, content)
    said = {"key": key, "f1": outcome.f1, "sha256": hashlib.sha256(outcome.files[_WEIGHTS]).hexdigest()}
    job.run_folder.mkdir(parents=True, exist_ok=True)
    write_atomic(job.run_folder / _INSTALLED, json.dumps(said).encode())


def _installed(job: Job, key: str) -> dict[str, Any] | None:
    """What is known of an adapter that this very run has put into the model folder, if it is still there."""
    try:
        said: dict[str, Any] = json.loads((job.run_folder / _INSTALLED).read_bytes())
        weights = (AdapterPool(job.folder).folder(job.language) / _WEIGHTS).read_bytes()
    except (OSError, ValueError):
        return None
    same = said.get("key") == key and said.get("sha256") == hashlib.sha256(weights).hexdigest()
    return said if same else None


def _key(job: Job, files: Mapping[str, str]) -> str:
    """What the adapter depends on: the model's other ``files``, by their checksums, the settings and the data."""
    parts = [
        repr(sorted(files.items())),
        json.dumps(job.config.identity(changed=True)),  # a setting that a later version adds changes nothing
        digest(job.data.train),
        digest(job.data.validation),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class InProcess:
    """One job after the other, here."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome | str]]:
        for job in jobs:
            yield job, _attempt(job)


class RayExecutor:
    """Each job a Ray task. Ray itself sends jobs and outcomes pickled between its own processes.

    Args:
        address: of a cluster, such as "auto" or "ray://host:10001"; RAY_ADDRESS by default, and without that Ray is
            started on this machine.
        cpus: of each job.
        gpus: of each job; one by default where the cluster has any.
        retries: how often a job starts again, from its checkpoint, when its worker dies.
        local_cpus: how many Ray may use on this machine, where it is started here; all by default.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float | None = None,
        retries: int = 2,
        local_cpus: int | None = None,
    ) -> None:
        self._ray = import_ray("training languages as jobs of a cluster")
        self._address = ray_address(address)
        self._cpus, self._gpus, self._retries, self._local_cpus = cpus, gpus, retries, local_cpus

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome | str]]:
        if not jobs:
            return
        with connected(self._ray, self._address, num_cpus=self._local_cpus):
            yield from self._run(jobs)

    def _run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome | str]]:
        gpus = self._gpus if self._gpus is not None else min(1, self._ray.cluster_resources().get("GPU", 0))
        task = self._ray.remote(num_cpus=self._cpus, num_gpus=gpus, max_retries=self._retries)(_attempt)
        pending = {task.remote(job): job for job in jobs}
        while pending:
            (done, *_), _rest = self._ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                yield job, self._ray.get(done)
            except self._ray.exceptions.RayError as error:  # the worker died, or there was no memory for it
                yield job, _one_line(error)
