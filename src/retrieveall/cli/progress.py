"""Progress bars on standard error, only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Advance", "Stage", "bar", "is_terminal", "stages"]

Advance: TypeAlias = Callable[[int, int], None]
"""Called with the steps just done and the number of items (texts, sentences) among them."""

Stage: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called with a description, the number done, and the total or None."""


def is_terminal(stream: object) -> bool:
    """Whether ``stream`` is a terminal."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty())


@contextmanager
def bar(description: str, total: int | None, *, unit: str, shown: bool = True) -> Iterator[Advance]:
    """A bar over ``total`` steps (indeterminate if None) that also counts ``unit``."""
    if not shown or not is_terminal(sys.stderr):
        yield lambda steps, items: None
        return
    with _progress(unit) as progress:
        task = progress.add_task(description, total=total, items=0)
        done = 0

        def advance(steps: int, items: int) -> None:
            nonlocal done
            done += items
            progress.update(task, advance=steps, items=done)

        yield advance


@contextmanager
def stages(*, unit: str) -> Iterator[Stage]:
    """One bar per stage; a stage ends when it is complete or the next one begins.

    Nothing is drawn between stages, so that other libraries' bars do not clash.
    """
    if not is_terminal(sys.stderr):
        yield lambda what, done, total: None
        return
    drawing = _Stages(unit)
    try:
        yield drawing.show
    finally:
        drawing.stop()


class _Stages:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._progress: Progress | None = None
        self._what = ""

    def show(self, what: str, done: int, total: int | None) -> None:
        if self._progress is None or what != self._what:
            self.stop()
            self._what = what
            self._progress = _progress(self._unit)
            self._progress.start()
            self._progress.add_task(what, total=total, items=done)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total, items=done)
        if total is not None and done >= total:
            self.stop()

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _progress(unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[items]:,} " + unit, markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    return Progress(*columns, console=Console(stderr=True), transient=True)
