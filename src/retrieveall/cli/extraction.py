"""The loop of ``retrieveall extract``: batches of documents through the model into a stream, and what was done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from retrieveall.cli.progress import Advance
from retrieveall.cli.render import Renderer
from retrieveall.cli.resume import Partial
from retrieveall.data.counts import counts_of
from retrieveall.data.documents import Document, batches
from retrieveall.errors import EngineError, InputError
from retrieveall.types import Prediction

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

__all__ = ["Done", "Extraction", "Source", "summary"]

_LONG = 10_000
"""Characters of the mean text from which on the speed is told in characters, too."""


@dataclass(frozen=True, slots=True)
class Source:
    """The input.

    Attributes:
        size: bytes of the input files, for the progress bar; None for other input.
        unread: what else is in the folder.
    """

    documents: Iterable[Document]
    size: int | None = None
    files: Sequence[Path] = ()
    unread: Sequence[Path] = ()

    def identity(self) -> list[list[Any]]:
        """Name, size and time of every file, which tell whether the input is that of an earlier run."""
        found = [(file, file.stat()) for file in self.files]
        return [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in found]


@dataclass(slots=True)
class Done:
    """Counts of a run, as in ``counts_of``."""

    texts: int = 0
    entities: int = 0
    unknown: int = 0
    partly: int = 0
    windows: int = 0
    unknown_windows: int = 0
    characters: int = 0

    def add(self, predictions: Sequence[Prediction]) -> None:
        for name, count in counts_of(predictions).items():
            setattr(self, name, getattr(self, name) + count)


class Extraction:
    """One run over documents.

    Args:
        partial: the results of a stopped run, which are not predicted again; None: all documents are new.
        options: arguments of ``RetrieveAll.predict``.
    """

    def __init__(
        self, model: RetrieveAll, renderer: Renderer, stream: IO[str], partial: Partial | None, **options: Any
    ) -> None:
        self._model, self._renderer, self._stream = model, renderer, stream
        self._partial, self._options = partial, options
        self.done = Done()
        self._before = 0
        self._seconds = 0.0
        self._characters_before = 0

    def over(self, documents: Iterable[Document], batch_size: int, advance: Advance) -> None:
        """Predict all documents, and write their results in order."""
        started = time.monotonic()
        iterator = iter(documents)
        if self._partial is not None and self._partial.state:
            self._restore(self._partial.state, iterator, advance)
        else:
            self._stream.write(self._renderer.head())
        for batch in batches(iterator, batch_size):
            predictions = self._predict(batch, advance)
            for document, prediction in zip(batch, predictions, strict=True):
                self._stream.write(self._renderer.item(prediction, document.fields))
            self._stream.flush()
            self.done.add(predictions)
            if self._partial is not None:
                self._partial.record({"done": asdict(self.done), "renderer": self._renderer.state()})
        self._stream.write(self._renderer.tail())
        self._seconds = time.monotonic() - started

    def _predict(self, batch: Sequence[Document], advance: Advance) -> list[Prediction]:
        """Predict a batch. The bar moves by bytes of the input, in proportion to the characters that are done."""
        size, characters = sum(each.size for each in batch), max(1, sum(len(each.text) for each in batch))
        done = moved = 0

        def progress(more: int) -> None:
            nonlocal done, moved
            done += more
            step = size * done // characters - moved
            moved += step
            advance(step, 0)

        try:
            predictions = self._model.predict([each.text for each in batch], progress=progress, **self._options)
        except EngineError as error:
            before = self.done.texts
            raise error.in_input([_place(each, before + i) for i, each in enumerate(batch, 1)], before) from None
        advance(size - moved, len(batch))
        return predictions

    def _restore(self, state: Mapping[str, Any], documents: Iterable[Document], advance: Advance) -> None:
        """Pass over the documents that are done."""
        self.done = Done(**state["done"])
        self._renderer.restore(state["renderer"])
        self._before, self._characters_before = self.done.texts, self.done.characters
        sizes = [document.size for document in islice(documents, self._before)]
        if len(sizes) < self._before:
            raise InputError(f"expected at least {self._before:,} texts as in the stopped run, got {len(sizes):,}")
        advance(sum(sizes), self._before)

    def summary(self, target: str) -> str:
        """The line at the end."""
        characters = self.done.characters - self._characters_before
        return summary(self.done.texts, self.done.entities, self._before, self._seconds, target, characters)


def _place(document: Document, number: int) -> str:
    """Where a text is, for messages: its number in the input from 1; in a folder, its file and line, too."""
    source = document.fields.get("source")
    return f"text {number:,}" + (f" ({source})" if isinstance(source, str) else "")


def summary(texts: int, entities: int, before: int, seconds: float, target: str, characters: int) -> str:
    """``1,000 texts, 1,503 entities, 210 texts a second, written to out.csv``.

    Args:
        before: texts that a stopped run had finished.
        characters: of the texts of this run; where they are long, as books are, the texts alone tell no speed.
    """
    speed = f"{(texts - before) / max(seconds, 1e-3):,.1f} texts a second"
    if characters >= _LONG * max(1, texts - before):
        speed += f", {characters / max(seconds, 1e-3):,.0f} characters a second"
    resumed = f" ({before:,} of them from the stopped run)" if before else ""
    where = f", written to {target}" if target else ""
    return (
        f"{texts:,} text{'s' * (texts != 1)}{resumed}, {entities:,} entit{'y' if entities == 1 else 'ies'}, "
        f"{speed}{where}"
    )
