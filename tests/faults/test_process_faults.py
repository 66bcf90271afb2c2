"""T12: a model in other processes. It works there, or fails at once with one line; it never hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SCRIPT = '''
import asyncio
import copy
import multiprocessing
import os
import pickle
import sys
import threading

import torch

from retrieveall import RetrieveAll
from retrieveall.errors import RetrieveAllError

TEXTS = ["Karl May in London", "Anna Meier"]


def keep(opened):
    global model
    model = opened


def plain(predictions):
    return [[(e.start, e.end, e.label, round(e.score, 4)) for e in p.entities] for p in predictions]


def predict(text):
    return plain(model.predict([text]))


def check(name, found, expected):
    print(f"{name}: {'as in the parent' if found == expected else found}")


def pool(method, *arguments):
    with multiprocessing.get_context(method).Pool(2, *arguments) as workers:
        try:
            return [one for found in workers.map_async(predict, TEXTS).get(60) for one in found]
        except RetrieveAllError as error:
            return f"{type(error).__name__}: {error}"


def while_predicting(work):
    """``work`` in this thread, while another one is inside the engine."""
    inside, done = threading.Event(), threading.Event()
    score = model.engine.score

    def slow(requests):
        inside.set()
        done.wait(60)
        return score(requests)

    model.engine.score = slow
    thread = threading.Thread(target=model.predict, args=(TEXTS,))
    thread.start()
    inside.wait(60)
    try:
        return work()
    finally:
        done.set()
        thread.join()
        del model.engine.score


async def tasks():
    return await asyncio.gather(*(asyncio.to_thread(model.predict, TEXTS) for _ in range(3)))


if __name__ == "__main__":
    torch.set_num_threads(2)
    keep(RetrieveAll.from_pretrained(sys.argv[1]))
    assert all(p.requires_grad is False for p in model.engine.model.parameters())
    expected = plain(model.predict(TEXTS))
    assert all(expected)
    check("fork", pool("fork"), expected)
    check("fork while predicting", while_predicting(lambda: pool("fork")), expected)
    check("fork afterwards", pool("fork"), expected)
    check("pickle", plain(pickle.loads(pickle.dumps(model)).predict(TEXTS)), expected)
    check("deepcopy", plain(copy.deepcopy(model).predict(TEXTS)), expected)
    check("another model", copy.deepcopy(model) is not model, True)
    os.chdir("/")  # a model opened by a relative path is found from everywhere
    check("spawn", pool("spawn", keep, (model,)), expected)
    check("threads", list(map(plain, asyncio.run(tasks()))), [expected] * 3)
    try:
        pickle.dumps(RetrieveAll(model.folder, model.engine))
    except RetrieveAllError as error:
        print(f"made of parts: {error}")
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_fork_pickle_spawn_and_threads(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), tiny_model.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tiny_model.parent, env=environment, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    said = dict(line.split(": ", 1) for line in out.splitlines())
    refused, by_parts = said.pop("fork while predicting"), said.pop("made of parts")
    assert set(said.values()) == {"as in the parent"}, said
    assert len(said) == 7
    assert refused.startswith("InputError: the model cannot be used in this forked process, since another thread")
    assert refused.endswith("start workers with multiprocessing.get_context('spawn')")
    assert "from_pretrained" in by_parts
