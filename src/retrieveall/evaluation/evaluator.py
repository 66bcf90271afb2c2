"""Scores any ``Predictor`` on gold sentences."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, TypeAlias

from retrieveall.data import check_labels, is_unspaced, normalise
from retrieveall.decoders.calibration import expected_calibration_error
from retrieveall.errors import EngineError, InputError
from retrieveall.evaluation.provenance import Provenance
from retrieveall.evaluation.report import EvaluationReport, LanguageChoice, LanguageReport
from retrieveall.evaluation.spans import SpanScores, score_spans, spans_of, widen
from retrieveall.types import AnswerFaults, Entity, Prediction, Sentence

__all__ = ["Predictor", "Progress", "evaluate", "training_texts"]

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called with the language, its sentences done, and their total or None."""

_TOKEN = re.compile(r"\S+")

BATCH = 256
"""Sentences per call of the model."""


class Predictor(Protocol):
    """The protocol of evaluated models; ``RetrieveAll`` implements it."""

    def predict(self, texts: Sequence[str], *, language: str | None = None) -> list[Prediction]:
        """The prediction for each text, in order."""
        ...


def evaluate(
    model: Predictor,
    sentences: Mapping[str, Iterable[Sentence]],
    *,
    language: LanguageChoice = "routed",
    seen_texts: Collection[str] | None = None,
    limit: int | None = None,
    tokens: Collection[str] = (),
    progress: Progress | None = None,
    data: str = "",
) -> EvaluationReport:
    """Score a model on the gold sentences of each language.

    Args:
        sentences: sentences by language; a stream is read once and not kept.
        language: ``"routed"`` routes by retrieval, ``"gold"`` uses the adapter of the gold language.
        seen_texts: training texts of the model in any language, for the score on unseen sentences; those of
            ``model.knowledge`` if None.
        limit: maximum number of sentences per language.
        tokens: languages whose gold labels are of whole tokens. Their predictions are widened to the tokens (what
            stands between white space, or in Chinese and Japanese each character) that they touch: a corpus that
            tags the whole word 서울에서 cannot say that the name in it is 서울.
        progress: called after every batch.
        data: description of the sentences, for the report.

    Raises:
        InputError: no sentences, a limit below 1, an unknown choice of language, a label that the model does not have.
        LanguageError: with ``"gold"``, a language that the model does not have.
    """
    if language not in ("routed", "gold"):
        raise InputError(f"expected language to be 'routed' or 'gold', got {language!r}")
    if limit is not None and limit < 1:
        raise InputError(f"expected a limit of at least 1, got {limit}")
    if not sentences:
        raise InputError("expected sentences of at least one language to evaluate on, got none")
    seen = training_texts(model) if seen_texts is None else frozenset(seen_texts)
    reports = {
        name: _evaluate_language(model, name, some, language == "gold", seen, limit, name in tokens, progress)
        for name, some in sentences.items()
    }
    return EvaluationReport(reports, language, data, Provenance.collect(model))


def training_texts(model: Any) -> frozenset[str] | None:
    """All texts in a model's knowledge; None for a model without knowledge."""
    knowledge = getattr(model, "knowledge", None)
    if knowledge is None:
        return None
    return frozenset(text for name in knowledge.languages for text in knowledge.sentences(name).texts)


def _batches(sentences: Iterable[Sentence], limit: int | None = None) -> Iterator[list[Sentence]]:
    """``sentences``, or the first ``limit`` of them, in lists of at most ``BATCH``."""
    iterator = islice(sentences, limit)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _evaluate_language(
    model: Predictor,
    name: str,
    sentences: Iterable[Sentence],
    gold_language: bool,
    seen: Collection[str] | None,
    limit: int | None,
    tokens: bool,
    progress: Progress | None,
) -> LanguageReport:
    total = len(sentences) if isinstance(sentences, Sized) else None
    if total is not None and limit is not None:
        total = min(total, limit)
    languages = getattr(model, "languages", None)
    tally = _Tally(name, seen, tokens, has_adapter=languages is None or name in languages)
    known = getattr(model, "labels", None)
    for batch in _batches(sentences, limit):
        if known is not None:
            # A corpus with other label names would score 0 and look like a bad model.
            check_labels(batch, known, name, "relabel it or leave it out")
        started = time.perf_counter()
        try:
            predictions = model.predict([each.text for each in batch], language=name if gold_language else None)
        except EngineError as error:
            numbered = enumerate(batch, tally.sentences)
            raise error.in_input([f"sentence {each.id or i}" for i, each in numbered], tally.sentences) from None
        tally.seconds += time.perf_counter() - started
        tally.add(batch, predictions)
        if progress is not None:
            progress(name, tally.sentences, total)
    if not tally.sentences:
        raise InputError(f"expected sentences of '{name}' to evaluate on, got none; check the corpus")
    return tally.report()


class _Tally:
    """Running totals of one language.

    Args:
        seen: training texts; None if unknown.
        tokens: whether gold is of tokens.
        has_adapter: whether the model has the language, so that a text can be routed to it.
    """

    def __init__(
        self, language: str, seen: Collection[str] | None, tokens: bool = False, has_adapter: bool = True
    ) -> None:
        self._has_adapter = has_adapter
        self.language = language
        self._tokens = tokens and not is_unspaced(language)
        self.seen = seen
        self.sentences = 0
        self.seconds = 0.0
        self._scores = SpanScores()
        self._unseen = SpanScores()
        self._unseen_sentences = 0
        self._probabilities: list[float] = []
        self._right: list[bool] = []
        self._routed_right = 0
        self._entity_free = 0
        self._spurious = 0
        self._faults: AnswerFaults | None = None

    def add(self, sentences: Sequence[Sentence], predictions: Sequence[Prediction]) -> None:
        if self._tokens:
            predictions = [_widened(found) for found in predictions]
        pairs = list(zip(sentences, predictions, strict=True))
        self.sentences += len(pairs)
        self._scores += _score(pairs)
        if self.seen is not None:
            unseen = [(gold, found) for gold, found in pairs if not self._is_seen(gold.text)]
            self._unseen += _score(unseen)
            self._unseen_sentences += len(unseen)
        for gold, found in pairs:
            self._routed_right += found.route.language == self.language
            if not gold.entities:
                self._entity_free += 1
                self._spurious += bool(found.entities)
            self._add_probabilities(gold, found)
            self._add_faults(found.faults)

    def _is_seen(self, text: str) -> bool:
        """Whether the text, or its normal form, is a training text."""
        return self.seen is not None and (text in self.seen or normalise(text).text in self.seen)

    def _add_probabilities(self, gold: Sentence, found: Prediction) -> None:
        wanted = spans_of(gold.entities)
        for entity in found.entities:
            if entity.score is not None:
                self._probabilities.append(entity.score)
                self._right.append((entity.start, entity.end, entity.label) in wanted)

    def _add_faults(self, found: AnswerFaults | None) -> None:
        if found is None:
            return
        sums = self._faults or AnswerFaults()
        self._faults = AnswerFaults(
            sums.malformed + (found.malformed > 0),
            sums.invented + (found.invented > 0),
            sums.unknown + (found.unknown > 0),
        )

    def report(self) -> LanguageReport:
        return LanguageReport(
            sentences=self.sentences,
            scores=self._scores,
            unseen=None if self.seen is None else self._unseen,
            unseen_sentences=self._unseen_sentences,
            calibration_error=expected_calibration_error(self._probabilities, self._right)
            if self._probabilities
            else None,
            routing_accuracy=self._routed_right / self.sentences if self._has_adapter else None,
            entity_free=self._entity_free,
            spurious=self._spurious,
            seconds=self.seconds,
            faults=self._faults,
        )


def _widened(found: Prediction) -> Prediction:
    """The prediction with its entities widened to the tokens of its text; of two that become one, the first stays."""
    tokens = [match.span() for match in _TOKEN.finditer(found.text)]
    spans = widen(((each.start, each.end, each.label) for each in found.entities), tokens)
    entities: list[Entity] = []
    for entity, (start, end, _) in zip(found.entities, spans, strict=True):
        if not entities or entities[-1].end <= start:
            entities.append(replace(entity, start=start, end=end, text=found.text[start:end]))
    return replace(found, entities=tuple(entities))


def _score(pairs: Sequence[tuple[Sentence, Prediction]]) -> SpanScores:
    return score_spans((gold.entities for gold, _ in pairs), (found.entities for _, found in pairs))
