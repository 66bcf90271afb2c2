"""A model that answers from a table, with everything evaluation looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from retrieveall.errors import LanguageError
from retrieveall.evaluation import Counts, EvaluationReport, LanguageReport, Provenance, SpanScores
from retrieveall.types import Entity, Knowledge, Prediction, Route, Sentence


def entity(text: str, surface: str, label: str, score: float | None = None) -> Entity:
    start = text.index(surface)
    return Entity(start, start + len(surface), label, surface, score)


class FakeKnowledge:
    """Training texts by language."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._texts = texts
        self.languages = tuple(sorted(texts))

    def sentences(self, language: str) -> SimpleNamespace:
        return SimpleNamespace(texts=list(self._texts[language]))


class FakeModel:
    """Predicts what ``answers`` says of a text, else nothing; ``routes`` gives the language it would choose."""

    def __init__(
        self,
        answers: Mapping[str, Sequence[Entity]],
        routes: Mapping[str, str],
        knowledge: Mapping[str, Sequence[str]] | None = None,
        languages: Sequence[str] = ("de", "en"),
        folder: Path | None = None,
    ) -> None:
        self.answers = answers
        self.routes = routes
        self.languages = tuple(languages)
        self.knowledge = None if knowledge is None else FakeKnowledge(knowledge)
        self.config = SimpleNamespace(name="fake")
        self.folder = None if folder is None else SimpleNamespace(path=folder)
        self.batches: list[int] = []

    def predict(self, texts: Sequence[str], *, language: str | None = None) -> list[Prediction]:
        if language is not None and language not in self.languages:
            raise LanguageError(f"no adapter for {language!r}")
        self.batches.append(len(texts))
        return [
            Prediction(
                text,
                tuple(self.answers.get(text, ())),
                Route({language or self.routes.get(text, "en"): 1.0}),
                Knowledge(),
            )
            for text in texts
        ]


BERLIN, PARIS, PLAIN, RAIN = "Ada war in Berlin", "Ada is in Paris", "it is late", "it rains"

GOLD: dict[str, list[Sentence]] = {
    "de": [Sentence(BERLIN, (entity(BERLIN, "Ada", "PER"), entity(BERLIN, "Berlin", "LOC")), "de", "1")],
    "en": [
        Sentence(PARIS, (entity(PARIS, "Ada", "PER"), entity(PARIS, "Paris", "LOC")), "en", "1"),
        Sentence(PLAIN, (), "en", "2"),
        Sentence(RAIN, (), "en", "3"),
    ],
}
ANSWERS = {
    # Right, and a wrong label.
    BERLIN: [entity(BERLIN, "Ada", "PER", 0.9), entity(BERLIN, "Berlin", "ORG", 0.6)],
    # Right; the other is missed.
    PARIS: [entity(PARIS, "Ada", "PER", 1.0)],
    # Out of nothing.
    RAIN: [entity(RAIN, "rains", "PER", 0.5)],
}


@pytest.fixture
def gold() -> dict[str, list[Sentence]]:
    return GOLD


@pytest.fixture
def model() -> FakeModel:
    """Sends the German sentence to English; knows the text of the sentence about Paris, as a German one."""
    return FakeModel(ANSWERS, {BERLIN: "en"}, {"de": [PARIS], "en": ["unrelated"]})


@pytest.fixture
def make_model() -> Callable[..., FakeModel]:
    return FakeModel


@pytest.fixture
def make_report() -> Callable[..., EvaluationReport]:
    """A report of two languages without running anything; keywords replace its fields."""

    def make(**changes: object) -> EvaluationReport:
        half = SpanScores({"LOC": Counts(1, 2, 2)})
        full = SpanScores({"LOC": Counts(2, 2, 2), "PER": Counts(1, 1, 1)})
        fields: dict[str, object] = {
            "languages": {
                "de": LanguageReport(4, half, half, 3, 0.25, 0.5, 0, 0, 2.0),
                "en": LanguageReport(8, full, full, 8, 0.05, 1.0, 4, 1, 2.0),
            },
            "choice": "routed",
            "data": "toy test",
            "provenance": Provenance(
                "0123456789abcdef", False, "2025-01-02T03:04:05+00:00", {"processor": "abacus", "threads": 1},
                {"torch": "2.13.0"}, "fake", "fedcba9876543210", "make",
            ),
        }  # fmt: skip
        return EvaluationReport(**{**fields, **changes})  # type: ignore[arg-type]

    return make
