"""Documents: sentences of running text that follow each other, one a line, as one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from recipes.base.variations import join
from recipes.measure.running import RunningSet, measure_running
from recipes.raw_text import RawSentence
from retrieveall.evaluation import Predictor

__all__ = ["SENTENCES", "documents_of", "measure_documents"]

SENTENCES = 10
_GLUE = "\n"


def documents_of(each: RunningSet, count: int = SENTENCES) -> RunningSet:
    """The set with every ``count`` sentences joined to one."""
    sentences = each.sentences
    return replace(each, sentences=tuple(_joined(sentences[i : i + count]) for i in range(0, len(sentences), count)))


def _joined(parts: Sequence[RawSentence]) -> RawSentence:
    sentences = [part.sentence for part in parts]
    begins = accumulate((len(each.text) + len(_GLUE) for each in sentences[:-1]), initial=0)
    tokens = [(at + start, at + end) for at, part in zip(begins, parts, strict=True) for start, end in part.tokens]
    return RawSentence(join(sentences, [_GLUE] * (len(sentences) - 1)), tuple(tokens))


def measure_documents(model: Predictor, sets: Sequence[RunningSet]) -> dict[str, Any]:
    """As ``measure_running``, over documents."""
    return measure_running(model, [documents_of(each) for each in sets])
