"""A model that knows a few names by heart, behind the pipeline's own type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.types import Entity, Knowledge, Prediction, Route

NAMES = {"Ada Lovelace": ("PER", 0.75), "London": ("LOC", 0.5), "北京": ("LOC", 0.9), "IBM": ("ORG", 0.25)}


class KnownNames:
    """The part of ``RetrieveAll`` that the integrations use."""

    labels = ("PER", "ORG", "LOC")
    languages = ("en", "zh")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        language: str | None = None,
        labels: Sequence[str] | None = None,
        threshold: float = 0.0,
    ) -> list[Prediction]:
        texts = [texts] if isinstance(texts, str) else list(texts)
        self.batches.append(len(texts))
        return [self._one(text, language, self.labels if labels is None else labels, threshold) for text in texts]

    def stream(self, texts: Iterable[str], *, batch_size: int = 256, **options: Any) -> Iterator[Prediction]:
        for text in texts:
            yield from self.predict([text], **options)

    def _one(self, text: str, language: str | None, labels: Sequence[str], threshold: float) -> Prediction:
        entities = tuple(
            Entity(match.start(), match.end(), label, match.group(), score)
            for match in re.finditer("|".join(NAMES), text)
            for label, score in [NAMES[match.group()]]
            if label in labels and score >= threshold
        )
        return Prediction(text, entities, Route({language or "en": 1.0}), Knowledge())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> KnownNames:
    """The model that every name opens."""
    model = KnownNames()
    monkeypatch.setattr(RetrieveAll, "from_pretrained", lambda name="base", **_: model)
    return model
