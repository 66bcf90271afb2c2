"""A model that knows a few names by heart, for tests of what is built on the pipeline: it costs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from retrieveall.arguments import check_text, check_threshold, languages_per_text, listed, wanted_labels
from retrieveall.errors import EngineError
from retrieveall.types import Entity, Knowledge, Prediction, Route

__all__ = ["KnownNames"]


class KnownNames:
    """Finds ``names`` (text to label and score), and checks its arguments as the pipeline does.

    ``batches`` holds the size of every batch. Texts of ``failing`` fail.
    """

    labels = ("PER", "ORG", "LOC")
    languages: tuple[str, ...] = ("de", "en")
    knowledge = Knowledge()

    def __init__(self, names: Mapping[str, tuple[str, float]]) -> None:
        self.names = names
        self.batches: list[int] = []
        self.failing: set[str] = set()

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        language: str | None = None,
        labels: str | Sequence[str] | None = None,
        threshold: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        texts = list(listed(texts))
        for number, text in enumerate(texts):
            check_text(text, number)
        languages_per_text(language, len(texts), self.languages)
        wanted = wanted_labels(labels, self.labels)
        check_threshold(threshold)
        self.batches.append(len(texts))
        if progress is not None:
            progress(sum(map(len, texts)))
        found = [self._one(text, language).only(wanted, threshold or 0.0) for text in texts]
        failures = {number: "no answer" for number, text in enumerate(texts) if text in self.failing}
        if failures:
            raise EngineError.of_items(
                failures, [None if number in failures else each for number, each in enumerate(found)], "text"
            )
        return found

    def stream(self, texts: Iterable[str], *, batch_size: int = 256, **options: Any) -> Iterator[Prediction]:
        some = listed(texts)  # checked at once
        return (prediction for text in some for prediction in self.predict([text], **options))

    def _one(self, text: str, language: str | None) -> Prediction:
        entities = tuple(
            Entity(match.start(), match.end(), label, match.group(), score)
            for match in re.finditer("|".join(self.names), text)
            for label, score in [self.names[match.group()]]
        )
        route = Route({language or "en": 1.0}, {"en": 0.75, "de": 0.25}, "fixed" if language else "vote")
        return Prediction(text, entities, route, self.knowledge)
