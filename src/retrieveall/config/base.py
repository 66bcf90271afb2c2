"""What settings share: they are strict, and names of languages and labels are safe as names of folders."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from retrieveall.errors import LanguageError

__all__ = ["LabelName", "Strict", "check_language"]

_LANGUAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff/\\]{1,64}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]|encoder)")


def check_language(language: str) -> str:
    """Return ``language`` if it is safe as an identifier and a folder name.

    Raises:
        LanguageError: unless it is 1 to 64 ASCII letters, digits, ``_`` and ``-``, with a letter or digit at both ends.
    """
    if not isinstance(language, str):
        raise LanguageError(f"expected a language identifier such as 'de', got {type(language).__name__}")
    if not _LANGUAGE.fullmatch(language) or _RESERVED.fullmatch(language):
        raise LanguageError(
            f"a language identifier is 1 to 64 letters, digits, '-' or '_' such as 'de' or 'zh-Hant', "
            f"got {language[:80]!r}; rename it"
        )
    return language


def _check_label(label: str) -> str:
    if not _LABEL.fullmatch(label) or label in {"O", ".", ".."}:
        raise ValueError(
            "a label is 1 to 64 characters without blanks, control characters or slashes and not 'O', "
            f"got {label[:80]!r}"
        )
    return label


LabelName = Annotated[str, AfterValidator(_check_label)]


class Strict(BaseModel):
    """Base class of all settings: immutable, and unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
