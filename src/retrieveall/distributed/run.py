"""Runs a job on Ray Data: files are cut into blocks, and a pool of actors, each with the model, predicts them.

Only descriptions of blocks and counts pass through Ray; texts and results go from storage to a worker and back. So
memory is that of the models and a batch of texts per worker, whatever the size of the corpus.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

from retrieveall import errors
from retrieveall.distributed.job import Done, Job, OpenModel
from retrieveall.distributed.output import Output
from retrieveall.distributed.place import Place
from retrieveall.distributed.worker import Cutter, Extractor
from retrieveall.errors import EngineError, InputError, MissingExtraError, RetrieveAllError
from retrieveall.ray_session import connected, import_ray, ray_address
from retrieveall.threads import usable_cpus

__all__ = ["run_job"]

Report = Callable[[int, int], None]

_WAITING = 2  # blocks at a worker: one in work, one that follows
_CUTTING = 2  # files that are cut at the same time
_STORE = 128 * 2**20  # bytes of Ray's object store on this machine; descriptions of blocks are small


def run_job(
    job: Job,
    *,
    workers: int | None = None,
    threads: int = 1,
    address: str | None = None,
    open_model: OpenModel | None = None,
    report: Report | None = None,
) -> Done:
    """Predict all rows of a corpus; blocks that an earlier run has finished are left as they are.

    Args:
        workers: processes with a model; None: one per GPU, or per ``threads`` CPUs where there is none.
        threads: CPUs of a worker.
        address: of a Ray cluster; None: RAY_ADDRESS, and without that Ray is started on this machine.
        open_model: opens the model of a worker; for tests and measurements.
        report: called with the bytes and texts of each block that is done.

    Raises:
        MissingExtraError: Ray is not installed.
        DataError, InputError, LanguageError, ModelFolderError: the first that a worker met; finished blocks are kept.
        EngineError: no cluster at the address, or Ray stopped, or workers were lost again and again on the same block.
    """
    ray = import_ray("extract --engine ray")
    address = ray_address(address)
    wanted = workers or (usable_cpus() // threads or 1)
    with connected(ray, address, num_cpus=wanted * threads, object_store_memory=_STORE):
        size = _pool(ray, workers, threads, job.model.gpus)
        with closing(_records(ray, job, size, threads, open_model)) as records:
            done = _collect(records, job, report)
    Output(Place(job.output)).clean()
    return done


def _pool(ray: Any, workers: int | None, threads: int, gpus: float) -> int:
    """The number of workers.

    Raises:
        InputError: the cluster has no room for one.
    """
    has = ray.cluster_resources()
    fitting = int(has.get("CPU", 0) // threads)
    if gpus:
        fitting = min(fitting, int(has.get("GPU", 0) / gpus))
    if fitting < 1:
        raise InputError(
            f"expected a cluster with {threads} CPUs and {gpus:g} GPUs for a worker, got {has.get('CPU', 0):g} CPUs "
            f"and {has.get('GPU', 0):g} GPUs; lower --threads or --gpus-per-worker"
        )
    return workers or fitting


def _records(
    ray: Any, job: Job, workers: int, threads: int, open_model: OpenModel | None
) -> Generator[Mapping[str, Any]]:
    """What the workers say of each block, in the order in which they finish."""
    import ray.data as data

    _quieten()
    files = data.from_items([{"file": index} for index in range(len(job.corpus.files))])
    _set_limits(files.context)
    cutting = min(_CUTTING, len(job.corpus.files))
    blocks = files.map_batches(
        Cutter(job).__call__, batch_size=1, compute=data.TaskPoolStrategy(size=cutting), num_cpus=0
    )
    records = blocks.map_batches(
        Extractor,
        fn_constructor_args=(job, open_model, threads),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_WAITING),
        num_cpus=threads,
        num_gpus=job.model.gpus or None,
    )
    try:
        yield from records.iter_rows()
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]  # the last names what happened
        raise EngineError(
            f"a worker failed, or Ray stopped ({lines[-1].strip()[:300]}); finished results are kept, repeat the "
            "command to go on"
        ) from None


def _quieten() -> None:
    """Errors are raised, in a line; Ray Data's own stack traces go to its log files only."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _set_limits(context: Any) -> None:
    """One block of the corpus per block of Ray Data, so that blocks are spread, and retried, one by one."""
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False


def _collect(records: Iterator[Mapping[str, Any]], job: Job, report: Report | None) -> Done:
    """Add up the counts.

    Raises:
        RetrieveAllError: as a worker met it, or blocks are missing.
    """
    done = Done()
    seen: dict[int, set[int]] = {}
    sizes: dict[int, int] = {}
    for record in records:
        if record["error"]:
            raise _error(str(record["kind"]), str(record["error"]))
        file, number, texts = int(record["file"]), int(record["number"]), int(record["texts"])
        seen.setdefault(file, set()).add(number)
        if record["last"]:
            sizes[file] = number + 1
        done.add(record)
        if record["before"]:
            done.before += texts
            done.characters_before += int(record["characters"])
        if report is not None:
            report(int(record["bytes"]), texts)
    missing = [file for file in range(len(job.corpus.files)) if len(seen.get(file, ())) != sizes.get(file)]
    if missing:
        name = job.corpus.where(job.corpus.files[missing[0]])
        raise EngineError(f"expected every block of {name}, got only some; repeat the command to go on")
    return done


def _error(kind: str, message: str) -> RetrieveAllError:
    found = getattr(errors, kind, RetrieveAllError)
    return RetrieveAllError(message) if found is MissingExtraError else found(message)
