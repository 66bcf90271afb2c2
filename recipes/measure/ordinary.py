"""Texts as people write them, marked by a careful reader: one a line, with its kind.

    KIND<TAB>⟦PER|Ada Lovelace⟧ was born in ⟦LOC|London⟧.

``\\n`` and ``\\t`` stand for a line break and a tab. A line that begins with # is a comment. Spans are compared
exactly, on the raw text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from recipes.measure.prediction import predict_all
from recipes.measure.running import LABELS, UNKNOWN, counts_as_json
from retrieveall.errors import DataError
from retrieveall.evaluation import Predictor, score_spans
from retrieveall.types import Entity, Prediction

__all__ = ["Marked", "measure_not_in_the_pool", "measure_ordinary", "parse_marked", "read_ordinary"]

NO_NAME = "no name"
_PIECE = re.compile(r"⟦([^⟦⟧|]*)\|([^⟦⟧]*)⟧|(\\n)|(\\t)|([⟦⟧])")


@dataclass(frozen=True)
class Marked:
    """A text of one kind, with the entities that a reader would mark."""

    kind: str
    text: str
    entities: tuple[Entity, ...]


Pair: TypeAlias = tuple[Marked, Prediction]


def read_ordinary(path: Path) -> list[Marked]:
    """The texts of a file.

    Raises:
        DataError: a line that is not KIND, tab, text, or has a wrong mark; names the line.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        kind, tab, marked = line.partition("\t")
        try:
            if not tab or "\t" in marked:
                raise DataError(f"expected a kind, one tab and a text, got {line[:60]!r}")
            text, entities = parse_marked(marked)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        found.append(Marked(kind, text, entities))
    return found


def parse_marked(marked: str) -> tuple[str, tuple[Entity, ...]]:
    """The text without its marks, and the marked entities with their offsets in it.

    Raises:
        DataError: a mark that is not ⟦LABEL|mention⟧.
    """
    text, entities, at = "", [], 0
    for piece in _PIECE.finditer(marked):
        text += marked[at : piece.start()]
        at = piece.end()
        label, mention, line_break, _, bracket = piece.groups()
        if bracket or (label is not None and (label not in LABELS or not mention)):
            raise DataError(f"expected ⟦LABEL|mention⟧ with a label of {', '.join(LABELS)}, got {piece[0]!r}")
        if label is None:
            text += "\n" if line_break else "\t"
            continue
        mention = mention.replace(r"\n", "\n").replace(r"\t", "\t")
        entities.append(Entity(len(text), len(text) + len(mention), label, mention))
        text += mention
    return text + marked[at:], tuple(entities)


def measure_ordinary(model: Predictor, texts: Sequence[Marked]) -> dict[str, Any]:
    """F1 by kind and in all, entities in texts that have none, and every text that is not as marked."""
    predictions = predict_all(model, [each.text for each in texts], "ordinary")
    pairs = list(zip(texts, predictions, strict=True))
    kinds = {
        kind: _score([pair for pair in pairs if pair[0].kind == kind])
        for kind in dict.fromkeys(each.kind for each in texts)
    }
    no_name = [pair for pair in pairs if pair[0].kind == NO_NAME]
    free = [pair for pair in pairs if not pair[0].entities]
    misses = [_miss(gold, found) for gold, found in pairs]
    return {
        **_score(pairs),
        "kinds": kinds,
        "no_name_rate": _spurious_rate(no_name),
        "unmarked_texts": len(free),
        "unmarked_rate": _spurious_rate(free),
        "misses": [miss for miss in misses if miss["missed"] or miss["wrong"]],
    }


def _score(pairs: Sequence[Pair]) -> dict[str, Any]:
    scores = score_spans([gold.entities for gold, _ in pairs], [found.entities for _, found in pairs])
    right = sum(not (miss["missed"] or miss["wrong"]) for miss in (_miss(gold, found) for gold, found in pairs))
    return {"texts": len(pairs), "texts_right": right, **counts_as_json(scores.micro)}


def _spurious_rate(pairs: Sequence[Pair]) -> float | None:
    return sum(bool(found.entities) for _, found in pairs) / len(pairs) if pairs else None


def _miss(gold: Marked, found: Prediction) -> dict[str, Any]:
    """A text with what was marked, what was found, and how they differ."""
    right = {(each.start, each.end, each.label) for each in gold.entities}
    guesses = {(each.start, each.end, each.label) for each in found.entities}
    return {
        "kind": gold.kind,
        "text": gold.text,
        "gold": [_as_json(each) for each in gold.entities],
        "predicted": [_as_json(each) for each in found.entities],
        "missed": [gold.text[start:end] for start, end, _ in sorted(right - guesses)],
        "wrong": [gold.text[start:end] for start, end, _ in sorted(guesses - right)],
        "route": dict(found.route.adapters),
    }


def _as_json(entity: Entity) -> dict[str, Any]:
    score = None if entity.score is None else round(entity.score, 3)
    return {"start": entity.start, "end": entity.end, "label": entity.label, "text": entity.text, "score": score}


def measure_not_in_the_pool(model: Predictor, texts: Sequence[str]) -> dict[str, Any]:
    """What a model does with texts in languages that it has no adapter for: routes and entities of each."""
    predictions = predict_all(model, texts, "not in the pool")
    return {
        "texts": len(texts),
        "unknown_routes": sum(each.route.reason in UNKNOWN for each in predictions) / max(len(texts), 1),
        "with_entities": sum(bool(each.entities) for each in predictions) / max(len(texts), 1),
        "predictions": [
            {
                "text": each.text,
                "reason": each.route.reason,
                "route": dict(each.route.adapters),
                "predicted": [_as_json(entity) for entity in each.entities],
            }
            for each in predictions
        ],
    }
