"""A model that knows two names by heart, for tests of the command line; as a program, the command line with it."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from retrieveall.errors import InputError, LanguageError
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Prediction, Route, Sentence

if TYPE_CHECKING:
    from typer.testing import Result

NAMES = {"Ada": ("PER", 0.9), "London": ("LOC", 0.6), "北京": ("LOC", 0.7)}
NEIGHBOUR = Sentence("Ada schrieb.", (Entity(0, 3, "PER", "Ada"),), "de", "de-1")


class FakeModel:
    """Predicts ``NAMES``; remembers the size of every batch."""

    labels = ("PER", "ORG", "LOC")
    languages = ("de", "en")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(
        self,
        texts: Sequence[str],
        *,
        language: str | None = None,
        labels: Sequence[str] | None = None,
        threshold: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        if language is not None and language not in self.languages:
            raise LanguageError(f"expected one of the languages {', '.join(self.languages)}, got {language!r}")
        for label in labels or ():
            if label not in self.labels:
                raise InputError(f"expected labels among {', '.join(self.labels)}, got {label!r}")
        self.batches.append(len(texts))
        if progress is not None:
            progress(sum(map(len, texts)))
        return [self._one(text, language, labels or self.labels, threshold or 0.0) for text in texts]

    def _one(self, text: str, language: str | None, labels: Sequence[str], threshold: float) -> Prediction:
        entities = tuple(
            Entity(match.start(), match.end(), label, match.group(), score)
            for match in re.finditer("|".join(NAMES), text)
            for label, score in [NAMES[match.group()]]
            if label in labels and score >= threshold
        )
        route = Route({language or "en": 1.0}, {"en": 0.75, "de": 0.25}, "fixed" if language else "vote")
        known = KnownEntity(0, 3, "Ada", {"en": {"PER": 2}, "de": {"PER": 1}})
        return Prediction(text, entities, route, Knowledge((Neighbour(NEIGHBOUR, 0.5),), (known,)))


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
