"""Calls exclude each other; in a forked child they work, or fail at once with one line, and never hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from retrieveall.call_lock import CallLock

SCRIPT = """
import os, sys, threading, time, traceback
import torch
from retrieveall.call_lock import CallLock
from retrieveall.errors import InputError

torch.set_num_threads(2)
matrix = torch.rand(1500, 1500)


def compute():  # a parallel operation
    return (matrix @ matrix).sum().item()


def child(work):
    "What work returns, or the error it raises, in a forked child."
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = repr(work())
        except InputError as error:
            found = f"InputError: {error}"
        except BaseException:
            found = traceback.format_exc()
        os.write(write, found.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return found


def call(lock):
    with lock:
        return round(compute() / reference, 3)


def hold(lock):
    "Stay inside the lock in another thread; the function that lets it go."
    inside, done = threading.Event(), threading.Event()

    def work():
        with lock:
            inside.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    return lambda: (done.set(), thread.join())


def in_threads(work):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return found


reference = compute()
"""
REFUSED = "InputError: the model cannot be used in this forked process, since "


def run(body: str, script: str = SCRIPT) -> list[str]:
    """The lines that a process of its own prints; one that hangs fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script + body]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=90)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too, which may hang
    assert process.returncode == 0, err
    return str(out).splitlines()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


@needs_fork
def test_a_child_computes_what_the_parent_does_with_one_thread() -> None:
    lines = run("""
lock = CallLock()
call(lock)
print(child(lambda: call(lock)))
print(child(lambda: [call(lock), call(lock)]))
print(child(torch.get_num_threads), torch.get_num_threads())
print(child(lambda: in_threads(lambda: call(lock))))
print(child(lambda: child(lambda: call(lock))))
print(child(lambda: call(CallLock())))
with lock:  # of this very thread
    print(child(lambda: call(lock)))
print(call(lock))
del lock  # the thread pool was used all the same
print(child(compute) != "0")
""")
    assert lines == ["1.0", "[1.0, 1.0]", "1 2", "[1.0, 1.0, 1.0]", "'1.0'", "1.0", "1.0", "1.0", "True"]


@needs_fork
def test_a_child_that_cannot_use_the_model_is_refused_at_once() -> None:
    lines = run("""
lock, other = CallLock(), CallLock()
release = hold(lock)
start = time.monotonic()
print(child(lambda: call(lock)))
print(child(lambda: call(other)))
print(child(lambda: child(lambda: call(lock)))[1:])
print(child(lambda: in_threads(lambda: child(lambda: call(lock))[:10])))
print(time.monotonic() - start < 5)
release()
print(child(lambda: call(lock)), call(lock), call(other))
remote = CallLock("it runs on a GPU")
print(child(lambda: call(remote)))
print(child(lambda: call(lock)), call(remote))
""")
    refused = f"{REFUSED}another thread was using a model at that moment; start workers with "
    assert all(line.startswith(refused) for line in lines[:3])
    assert lines[0].endswith("start workers with multiprocessing.get_context('spawn')")
    assert lines[3:6] == ["['InputError', 'InputError', 'InputError']", "True", "1.0 1.0 1.0"]
    assert lines[6] == f"{REFUSED}it runs on a GPU; start workers with multiprocessing.get_context('spawn')"
    assert lines[7] == "1.0 1.0"


@needs_fork
@pytest.mark.parametrize("modules", ["faiss, torch", "torch, faiss"])
def test_the_threads_of_faiss(modules: str) -> None:
    """Imported first, it has an OpenMP library of its own."""
    pytest.importorskip("faiss")
    script = f"import {modules}\nfaiss.omp_set_num_threads(2)\n" + SCRIPT
    lines = run(
        """
index = faiss.IndexFlatIP(1500)
index.add(matrix.numpy())
search = lambda: int(index.search(matrix.numpy()[:500], 3)[1][:, 0].sum())
expected, lock = search(), CallLock()
print(child(search) == str(expected))
""",
        script,
    )
    assert lines == ["True"]


@needs_fork
def test_forks_at_any_moment_of_another_threads_calls() -> None:
    lines = run("""
lock, stop = CallLock(), threading.Event()
matrix = matrix[:300, :300].contiguous()
reference = compute()

def predict():
    while not stop.is_set():
        call(lock)
        time.sleep(0.001)

thread = threading.Thread(target=predict)
thread.start()
found = []
for _ in range(60):
    found.append(child(lambda: call(lock)))
    time.sleep(0.0007)
stop.set()
thread.join()
print({line if line == "1.0" else line[:10] for line in found} <= {"1.0", "InputError"})
""")
    assert lines == ["True"]


def test_calls_exclude_each_other_and_may_be_nested() -> None:
    lock, inside, most = CallLock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with lock, lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_exception_releases_it() -> None:
    lock = CallLock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    thread = threading.Thread(target=lock.__enter__)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
