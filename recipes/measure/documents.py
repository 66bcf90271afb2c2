"""Documents: sentences of running text that follow each other, one a line, as one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recipes.measure.running import RunningSet, measure_running
from recipes.raw_text import RawSentence
from retrieveall.evaluation import Predictor
from retrieveall.types import Entity, Sentence

__all__ = ["SENTENCES", "documents_of", "measure_documents"]

SENTENCES = 10


def documents_of(each: RunningSet, count: int = SENTENCES) -> RunningSet:
    """The set with every ``count`` sentences joined to one."""
    sentences = each.sentences
    return replace(each, sentences=tuple(_joined(sentences[i : i + count]) for i in range(0, len(sentences), count)))


def _joined(parts: Sequence[RawSentence]) -> RawSentence:
    text, entities, tokens = "", list[Entity](), list[tuple[int, int]]()
    for part in parts:
        if text:
            text += "\n"
        at = len(text)
        text += part.sentence.text
        entities += [replace(each, start=each.start + at, end=each.end + at) for each in part.sentence.entities]
        tokens += [(start + at, end + at) for start, end in part.tokens]
    return RawSentence(Sentence(text, tuple(entities), parts[0].sentence.language), tuple(tokens))


def measure_documents(model: Predictor, sets: Sequence[RunningSet]) -> dict[str, Any]:
    """As ``measure_running``, over documents."""
    return measure_running(model, [documents_of(each) for each in sets])
