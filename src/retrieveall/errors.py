"""Everything this library raises on purpose. Each message says what was expected, what came, and what to do."""

from __future__ import annotations

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
    "RetrieveAllError",
    "UnsafeFileError",
]


class RetrieveAllError(Exception):
    """Base of all errors of this library; the command line prints it as one line and exits with 1."""


class ConfigError(RetrieveAllError):
    """A configuration that cannot be used: unknown key, wrong type, contradicting values."""


class DataError(RetrieveAllError):
    """A corpus file that cannot be read; names file and line."""


class InputError(RetrieveAllError):
    """A text, label or option given by the caller that cannot be used."""


class LanguageError(InputError):
    """A language that the model does not have, or an identifier that is not a language."""


class ModelFolderError(RetrieveAllError):
    """A model folder with a missing, altered or malformed file; names the file."""


class UnsafeFileError(ModelFolderError):
    """A file that could execute code or reach outside its folder; it was not opened."""


class AdapterError(ModelFolderError):
    """An adapter that does not fit the backbone or is malformed; names file and tensor."""


class EngineError(RetrieveAllError):
    """Whoever runs the model did not answer, or not as expected.

    Where some of many items failed, ``failures`` holds what went wrong by item number, and ``results`` the results of
    all items in order, None for those that failed; nothing that was finished is lost.
    """

    def __init__(
        self, message: str, *, failures: Mapping[int, str] | None = None, results: Sequence[Any] | None = None
    ) -> None:
        super().__init__(message)
        self.failures: Mapping[int, str] = dict(failures or {})
        self.results: Sequence[Any] = list(results or ())

    @classmethod
    def of_items(cls, failures: Mapping[int, str], results: Sequence[Any], what: str = "item") -> EngineError:
        """One error for the failures among ``results``; its message names the first three."""
        shown = "; ".join(f"{what} {number}: {failures[number]}" for number in sorted(failures)[:3])
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        message = f"{len(failures)} of {len(results)} {what}s failed: {shown}{more}"
        return cls(message, failures=failures, results=results)


class MissingExtraError(RetrieveAllError):
    """An optional dependency is not installed; names the exact command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed; run: pip install 'retrieveall[{extra}]'"
        )
