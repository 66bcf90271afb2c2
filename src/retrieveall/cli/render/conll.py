"""Predictions as ``word<TAB>tag`` lines in IOB2, in the library's corpus format."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from retrieveall.cli.render.base import Renderer, blank_note
from retrieveall.data import write_conll
from retrieveall.types import Prediction, Sentence

__all__ = ["ConllRenderer"]


class ConllRenderer(Renderer):
    """The words of ``retrieveall.data.segment`` with tags, then a blank line.

    A text without words is left out, and counted.

    In Chinese and Japanese the token ``#`` stands for white space, as in PAN-X: see ``write_conll``.
    """

    def __init__(self) -> None:
        self._blank = 0

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        stream = StringIO()
        sentence = Sentence(prediction.text, prediction.entities, prediction.route.language)
        self._blank += not write_conll([sentence], stream)
        return stream.getvalue()

    def notes(self) -> list[str]:
        return blank_note(self._blank, "CoNLL")

    def state(self) -> dict[str, Any]:
        return {"blank": self._blank}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._blank = state.get("blank", 0)
