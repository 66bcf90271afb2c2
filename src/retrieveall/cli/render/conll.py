"""Predictions as ``word<TAB>tag`` lines in IOB2, in the library's corpus format."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from retrieveall.cli.render.base import Renderer
from retrieveall.data import write_conll
from retrieveall.types import Prediction, Sentence

__all__ = ["ConllRenderer"]


class ConllRenderer(Renderer):
    """The words of ``retrieveall.data.segment`` with tags, then a blank line; nothing for a text without words.

    In Chinese and Japanese the token ``#`` stands for white space, as in PAN-X: see ``write_conll``.
    """

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        stream = StringIO()
        write_conll([Sentence(prediction.text, prediction.entities, prediction.route.language)], stream)
        return stream.getvalue()
