"""The exceptions of this library. Each message says what was expected, what was found and what to do."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AdapterError",
    "ConfigError",
    "DataError",
    "EngineError",
    "InputError",
    "LanguageError",
    "MissingExtraError",
    "ModelFolderError",
    "NonFiniteError",
    "RetrieveAllError",
    "UnsafeFileError",
]


class RetrieveAllError(Exception):
    """Base class of all errors of this library; the command line prints it as one line and exits with 1."""


class ConfigError(RetrieveAllError):
    """An invalid configuration: unknown key, wrong type or contradictory values."""


class DataError(RetrieveAllError):
    """A corpus file that cannot be read; names file and line."""


class InputError(RetrieveAllError):
    """An invalid text, label or option passed by the caller."""


class LanguageError(InputError):
    """A language that the model does not have, or an invalid language identifier."""


class ModelFolderError(RetrieveAllError):
    """A model folder with a missing, modified or malformed file; names the file."""


class NonFiniteError(ModelFolderError):
    """A model whose scores are NaN or infinite: its weights are damaged, or too large for its precision."""

    def __init__(self) -> None:
        super().__init__(
            "the model's scores contain NaN or infinity; set backbone.dtype to float32, or get the model again"
        )


class UnsafeFileError(ModelFolderError):
    """A file that could execute code or access paths outside its folder; it was not opened."""


class AdapterError(ModelFolderError):
    """An adapter that is malformed or does not fit the backbone; names file and tensor."""


class EngineError(RetrieveAllError):
    """The engine failed or returned an unexpected response.

    If only some items failed, ``failures`` maps item numbers to reasons, and ``results`` holds the results of all
    items in order, None for those that failed. Where items come in batches, ``failures`` counts from the beginning of
    the input, and ``results`` holds the batch, which begins with item ``first``.
    """

    def __init__(
        self,
        message: str,
        *,
        failures: Mapping[int, str] | None = None,
        results: Sequence[Any] | None = None,
        first: int = 0,
    ) -> None:
        super().__init__(message)
        self.first = first
        self.failures: Mapping[int, str] = dict(failures or {})
        self.results: Sequence[Any] = list(results or ())

    @classmethod
    def of_items(cls, failures: Mapping[int, str], results: Sequence[Any], what: str = "item") -> EngineError:
        """One error for all ``failures``; the message shows the first three."""
        names = {number: f"{what} {number}" for number in failures}
        return cls(_message(failures, len(results), f"{what}s", names), failures=failures, results=results)

    def in_input(self, names: Sequence[str], first: int = 0) -> EngineError:
        """As an error of the input of which these texts are a batch.

        Args:
            names: of the texts of the batch in the input, for the message.
            first: the number of the first in the input.
        """
        if len(self.results) != len(names):  # nothing was computed
            return self
        named = dict(enumerate(names, first))
        failures = {first + number - self.first: reason for number, reason in self.failures.items()}
        texts = f"texts from {names[0]} on" if first else "texts"
        return EngineError(
            _message(failures, len(names), texts, named), failures=failures, results=self.results, first=first
        )


def _message(failures: Mapping[int, str], count: int, items: str, names: Mapping[int, str]) -> str:
    shown = "; ".join(f"{names[number]}: {failures[number]}" for number in sorted(failures)[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return f"{len(failures)} of {count} {items} failed: {shown}{more}"


class MissingExtraError(RetrieveAllError):
    """An optional dependency is not installed; names the exact command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        # With the path of this Python: "pip" alone may be that of another one, or not there.
        quote = '"' if os.name == "nt" else "'"
        python = shlex.quote(sys.executable or "python")
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed; "
            f"run: {python} -m pip install {quote}retrieveall[{extra}]{quote}"
        )
