"""Predictions as JSON, one object per line. Fields of the input are kept unless the prediction has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from retrieveall.types import Entity, Knowledge, Prediction, Route

__all__ = ["JsonlRenderer"]

DIGITS = 4


class JsonlRenderer:
    """``{"text", "entities": [{"start", "end", "label", "text", "score"}], "route", "language"}``.

    Args:
        explain: add ``"knowledge"``, the retrieval results.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain

    def head(self) -> str:
        return ""

    def item(self, prediction: Prediction, fields: Mapping[str, Any]) -> str:
        record = {
            **fields,
            "text": prediction.text,
            "entities": [_entity(entity) for entity in prediction.entities],
            "route": _route(prediction.route),
            "language": prediction.route.language,
        }
        if self._explain:
            record["knowledge"] = _knowledge(prediction.knowledge)
        line = json.dumps(record, ensure_ascii=False)
        try:
            line.encode()
        except UnicodeEncodeError:  # a lone surrogate in an input field: only \u escapes can represent it
            line = json.dumps(record)
        return line + "\n"

    def tail(self) -> str:
        return ""


def _entity(entity: Entity) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "start": entity.start,
        "end": entity.end,
        "label": entity.label,
        "text": entity.text,
    }
    if entity.score is not None:
        plain["score"] = round(entity.score, DIGITS)
    return plain


def _route(route: Route) -> dict[str, Any]:
    return {"adapters": _shares(route.adapters), "votes": _shares(route.votes), "reason": route.reason}


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: round(weights[name], DIGITS) for name in sorted(weights, key=lambda n: (-weights[n], n))}


def _knowledge(knowledge: Knowledge) -> dict[str, Any]:
    return {
        "neighbours": [
            {
                "text": neighbour.sentence.text,
                "language": neighbour.language,
                "id": neighbour.sentence.id,
                "similarity": round(neighbour.similarity, DIGITS),
                "entities": [_entity(entity) for entity in neighbour.sentence.entities],
            }
            for neighbour in knowledge.neighbours
        ],
        "entities": [
            {
                "start": known.start,
                "end": known.end,
                "surface": known.surface,
                "similarity": round(known.similarity, DIGITS),
                "inside": known.inside,
                "outside": known.outside,
                "partial": known.partial,
                "counts": {language: dict(counts) for language, counts in known.counts.items()},
            }
            for known in knowledge.entities
        ],
    }
