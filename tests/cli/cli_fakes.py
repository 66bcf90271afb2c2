"""A model that knows two names by heart, for tests of the command line; as a program, the command line with it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from known_names import KnownNames
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Sentence

if TYPE_CHECKING:
    from typer.testing import Result

NAMES = {"Ada": ("PER", 0.9), "London": ("LOC", 0.6), "北京": ("LOC", 0.7)}
NEIGHBOUR = Sentence("Ada schrieb.", (Entity(0, 3, "PER", "Ada"),), "de", "de-1")


class FakeModel(KnownNames):
    """Knows ``NAMES``, and has knowledge to explain them with."""

    knowledge = Knowledge(
        (Neighbour(NEIGHBOUR, 0.5),), (KnownEntity(0, 3, "Ada", {"en": {"PER": 2}, "de": {"PER": 1}}),)
    )

    def __init__(self) -> None:
        super().__init__(NAMES)


def install(model: FakeModel) -> None:
    """Let every name open ``model``."""
    from retrieveall import RetrieveAll

    def open_fake(name: str = "base", **_: Any) -> FakeModel:
        return model

    RetrieveAll.from_pretrained = open_fake  # type: ignore[method-assign, assignment]


def one_error(result: Result, *parts: str) -> None:
    """The command failed with 1 and one line on standard error that says all of ``parts``."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("note: ", "read "))]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


if __name__ == "__main__":
    from retrieveall.cli import main

    # A shell that starts the tests in the background has told its children to ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    install(FakeModel())
    sys.argv[0] = "retrieveall"
    main()
