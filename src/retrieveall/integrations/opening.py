"""The model that an integration is given: a name or a folder, or one that is open already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieveall.arguments import check_language, check_option_names, check_threshold, wanted_labels
from retrieveall.errors import InputError
from retrieveall.pipeline import RetrieveAll

__all__ = ["check_options", "opened"]

_OPTIONS = ("language", "labels", "threshold")


def opened(model: RetrieveAll | str | Path, options: Mapping[str, Any] | None = None) -> RetrieveAll:
    """``model`` itself, or what ``RetrieveAll.from_pretrained`` opens with ``options``.

    Raises:
        InputError: neither; options for a model that is open already.
    """
    if isinstance(model, (str, os.PathLike)):
        return RetrieveAll.from_pretrained(model, **(options or {}))
    if not callable(getattr(model, "predict", None)):
        raise InputError(
            f"expected a model, or the name or folder of one, got {type(model).__name__}; "
            "open one with: RetrieveAll.from_pretrained('base')"
        )
    if options:
        raise InputError(
            f"expected {', '.join(options)} with the name of a model, got an opened one; give the options to "
            "RetrieveAll.from_pretrained"
        )
    return model


def check_options(model: RetrieveAll, options: Mapping[str, Any]) -> None:
    """Check the options of ``predict`` that an integration is made with, before there is a text.

    Raises:
        InputError: an unknown option, label or language; a threshold outside 0 to 1.
    """
    check_option_names(options, _OPTIONS, "predict")
    check_language(options.get("language"), model.languages)
    wanted_labels(options.get("labels"), model.labels)
    check_threshold(options.get("threshold"))
