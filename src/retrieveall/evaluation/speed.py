"""How fast, how large, how soon: throughput, peak memory and cold start of a model on this machine."""

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
"""Read by torch and FAISS, by the linear algebra below them, and by tokenizers when they are first used."""


def measure(
    model: Predictor,
    texts: Sequence[str],
    threads: int = 1,
    *,
    command: Sequence[str] | None = None,
    repeats: int = 3,
) -> dict[str, Any]:
    """Throughput over ``texts``, peak memory of this process, and the cold start of the command line.

    Set ``THREAD_VARIABLES`` before this process loads anything, else only torch keeps to ``threads``;
    ``cores_used`` in the result tells.

    Args:
        texts: of mixed languages, in the order they are to run in.
        threads: of torch, and of the command.
        command: measured as the cold start, unless it is empty; ``python -m retrieveall extract`` of one
            sentence if None.
        repeats: runs of the command, of which the median counts.

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
    """Sentences a second by the wall clock, after the first batch has run once to warm up.

    ``cores_used`` is processor time by wall time: 1.0 for one busy thread.

    Raises:
        InputError: no texts.
    """
    if not texts:
        raise InputError("expected texts to measure the speed with, got none")
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
    """Most RAM that this process has had so far, in MB of 10^6 bytes; None where the system does not say."""
    # getrusage alone would do but for Linux, where a child starts with the peak of whoever started it.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return round(int(kilobytes) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere: getrusage(2) of either.
    return round((peak if sys.platform == "darwin" else peak * 1024) / 1e6, 1)


def cold_start(command: Sequence[str], *, threads: int = 1, repeats: int = 3) -> dict[str, Any]:
    """Wall time of a whole process, from its start to its end, in seconds: every run, and their median.

    Raises:
        RetrieveAllError: the command is not found or exits with anything but 0.
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
