"""Throughput, peak memory and cold start of a model on this machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.evaluation.evaluator import BATCH, Predictor

__all__ = ["COLD_TEXT", "THREAD_VARIABLES", "cold_start", "measure", "peak_memory", "throughput"]

COLD_TEXT = "Ada Lovelace was born in London."
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""Read by torch, FAISS, their BLAS libraries and tokenizers when first used."""


def measure(
    model: Predictor,
    texts: Sequence[str],
    threads: int = 1,
    *,
    command: Sequence[str] | None = None,
    repeats: int = 3,
) -> dict[str, Any]:
    """Throughput over ``texts``, peak memory of this process, and the cold start of the command line.

    Set ``THREAD_VARIABLES`` before this process loads any library, otherwise only torch is limited to ``threads``;
    check ``cores_used`` in the result.

    Args:
        texts: in mixed languages, in the order to run.
        threads: for torch and for the command.
        command: command line for the cold start, empty to skip it; ``python -m retrieveall extract`` with one
            sentence if None.
        repeats: runs of the command; the median is reported.

    Raises:
        InputError: no texts, or fewer than one thread or repeat.
        RetrieveAllError: the command failed.
    """
    if threads < 1 or repeats < 1:
        raise InputError(f"expected at least 1 thread and 1 repeat, got {threads} and {repeats}")
    with _torch_threads(threads):
        result: dict[str, Any] = {"threads": threads, **throughput(model, texts)}
    result["peak_memory_mb"] = peak_memory()
    if command is None:
        command = [sys.executable, "-m", "retrieveall", "extract", COLD_TEXT]
    if command:
        result |= cold_start(command, threads=threads, repeats=repeats)
    return result


def throughput(model: Predictor, texts: Sequence[str]) -> dict[str, float]:
    """Sentences per second of wall time, after a warm-up on the first batch.

    ``cores_used`` is processor time divided by wall time: 1.0 for one busy thread.

    Raises:
        InputError: no texts.
    """
    if not texts:
        raise InputError("expected texts to measure speed on, got none")
    model.predict(texts[:BATCH])
    wall, busy = time.perf_counter(), time.process_time()
    for first in range(0, len(texts), BATCH):
        model.predict(texts[first : first + BATCH])
    seconds = max(time.perf_counter() - wall, 1e-9)
    return {
        "sentences": len(texts),
        "seconds": round(seconds, 3),
        "sentences_per_second": round(len(texts) / seconds, 1),
        "cores_used": round((time.process_time() - busy) / seconds, 2),
    }


def peak_memory() -> float | None:
    """Peak resident memory of this process in MB (10^6 bytes); None if unknown."""
    # On Linux, getrusage of a child process starts with the peak of its parent.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return round(int(kilobytes) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere; see getrusage(2).
    return round((peak if sys.platform == "darwin" else peak * 1024) / 1e6, 1)


def cold_start(command: Sequence[str], *, threads: int = 1, repeats: int = 3) -> dict[str, Any]:
    """Wall time of a whole process in seconds: every run, and the median.

    Raises:
        RetrieveAllError: the command is not found or its exit status is not 0.
    """
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    runs = []
    for _ in range(repeats):
        started = time.perf_counter()
        try:
            done = subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise RetrieveAllError(f"could not run {command[0]}: {error.strerror}; check the command") from error
        runs.append(round(time.perf_counter() - started, 3))
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise RetrieveAllError(
                f"expected exit status 0 of {' '.join(command)[:200]}, got {done.returncode}: "
                f"{lines[-1][:200] if lines else 'no message'}"
            )
    return {"cold_start_seconds": statistics.median(runs), "cold_start_runs": runs}


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
