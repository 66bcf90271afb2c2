"""The steps of a build, each in a folder that is named after all it depends on.

The key of a step is a hash of its settings, of the files that it reads and of the keys of the steps before it. So other
settings, other data or a small build never take over what was made with these. Code is no part of the key: whoever
changes a step's code deletes its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from retrieveall.errors import ConfigError
from retrieveall.evaluation.provenance import Provenance
from retrieveall.storage import sha256_file, write_atomic

__all__ = ["Files", "Keyed", "Step", "all_steps", "build", "digest", "steps_to_run"]

DONE = "done.json"


@runtime_checkable
class Keyed(Protocol):
    """Anything that a step reads: its key is another one when its contents are."""

    @property
    def key(self) -> str: ...


def digest(value: Any) -> str:
    """A short hash of plain data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Files:
    """Files of a folder, keyed by their contents."""

    folder: Path
    names: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        missing = [name for name in self.names if not (self.folder / name).is_file()]
        if missing:
            raise ConfigError(f"expected the file {self.folder / missing[0]}, found none; check the folder's path")
        return digest({name: sha256_file(self.folder / name) for name in self.names})


@dataclass(frozen=True)
class Step:
    """One function call of a build: ``run(folder, **arguments)`` fills a folder.

    ``arguments`` are settings (plain data or pydantic models), what has a key, and other steps, in whose place the
    function gets their folders. A function that is interrupted finds its folder as it left it. ``work`` says in a few
    words how much there is to do. ``parallel``: in a build of several processes all of them call it, not the first
    alone.
    """

    name: str
    run: Callable[..., None]
    arguments: Mapping[str, Any]
    work: str = ""
    parallel: bool = False

    @cached_property
    def key(self) -> str:
        return digest({"name": self.name, **self.description})

    @property
    def description(self) -> dict[str, Any]:
        """Everything that the outcome depends on, as plain data."""
        return {name: _describe(value) for name, value in self.arguments.items()}

    @property
    def before(self) -> list[Step]:
        """The steps whose folders this one reads."""
        return [value for value in self.arguments.values() if isinstance(value, Step)]

    def folder(self, out: Path) -> Path:
        """Where this step puts its files in the build ``out``."""
        return out / f"{self.name}-{self.key}"

    def is_done(self, out: Path) -> bool:
        """Whether it has run to its end in the build ``out``."""
        return (self.folder(out) / DONE).is_file()


def _describe(value: Any) -> Any:
    if isinstance(value, Step):
        return f"{value.name}-{value.key}"
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.key if isinstance(value, Keyed) else value


def all_steps(last: Step) -> list[Step]:
    """``last`` and every step that it needs, in order."""
    return list(_walk(last, lambda step: False))


def steps_to_run(last: Step, out: Path) -> list[Step]:
    """The steps that ``last`` needs and that are not done, in order; of what is done nothing else is needed."""
    return list(_walk(last, lambda step: step.is_done(out)))


def _walk(last: Step, skip: Callable[[Step], bool]) -> Iterator[Step]:
    seen: set[str] = set()

    def walk(step: Step) -> Iterator[Step]:
        if step.key in seen or skip(step):
            return
        seen.add(step.key)
        for earlier in step.before:
            yield from walk(earlier)
        yield step

    return walk(last)


def build(last: Step, out: Path) -> Path:
    """Run what ``last`` needs, then ``last``; its folder. Stopped and called again, it goes on where it was.

    Under ``torchrun`` all processes call this alike: steps that train share their work, the first process runs the
    rest.
    """
    processes = _Alone() if "WORLD_SIZE" not in os.environ else _join()
    steps = steps_to_run(last, out)
    processes.total(1)  # all wait for each other: no step is done before all know which are not
    for step in steps:
        folder = step.folder(out)
        given = {name: v.folder(out) if isinstance(v, Step) else v for name, v in step.arguments.items()}
        started = time.monotonic()
        with processes.main_first():
            if processes.main:
                folder.mkdir(parents=True, exist_ok=True)
                print(f"== {folder.name}", flush=True)
                if not step.parallel:
                    step.run(folder, **given)
        if step.parallel:
            step.run(folder, **given)
        with processes.main_first():
            if processes.main:
                _finish(step, folder, round(time.monotonic() - started, 1))  # since it was last started
    return last.folder(out)


def _finish(step: Step, folder: Path, seconds: float) -> None:
    provenance = asdict(Provenance.collect())
    note = {"step": step.name, "arguments": step.description, "seconds": seconds, "provenance": provenance}
    write_atomic(folder / DONE, (json.dumps(note, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"== {folder.name}: {seconds / 60:.1f} min", flush=True)


class _Alone:
    """One process, of the kind of ``training.parallel.Processes``, which needs torch."""

    main = True

    def total(self, value: int) -> int:
        return value

    def main_first(self) -> AbstractContextManager[None]:
        return nullcontext()


def _join() -> Any:
    from retrieveall.training.parallel import Processes

    return Processes.join("cpu")
