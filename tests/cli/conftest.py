"""The command line in this process, and as a process of its own, with a model that costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeModel
from typer.testing import CliRunner, Result

from retrieveall.cli.app import app

PROGRAM = [sys.executable, str(Path(__file__).with_name("cli_fakes.py"))]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def run() -> Callable[..., Result]:
    """``run("extract", "text", input="…")``: exit code, output and errors of the command line."""

    def run(*arguments: str | Path, input: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)), input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """The model that ``extract`` opens, whatever its name."""
    from retrieveall import RetrieveAll

    model = FakeModel()

    def open_fake(name: str, **options: Any) -> FakeModel:
        model.opened = (name, options)  # type: ignore[attr-defined]
        return model

    monkeypatch.setattr(RetrieveAll, "from_pretrained", open_fake)
    return model


@pytest.fixture
def spawn() -> Callable[..., subprocess.Popen[bytes]]:
    """``spawn("extract", …, stdin=…)``: the command line with the fake model as a process."""

    def spawn(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        return subprocess.Popen([*PROGRAM, *arguments], env=environment, **options)

    return spawn
