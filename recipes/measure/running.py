"""Running text: F1 on raw text, calibration, routing, and entities found in sentences that have none.

Gold and predictions are compared as spans of tokens: each predicted span is widened to the tokens of the corpus that
it touches. Otherwise a Korean corpus, which tags whole words, would count a name without its particle as wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from recipes.measure.prediction import predict_all
from recipes.raw_text import RawSentence, raw_text
from retrieveall.data import read_corpus
from retrieveall.decoders.calibration import expected_calibration_error
from retrieveall.errors import InputError
from retrieveall.evaluation import Counts, Predictor, SpanScores, score_spans, widen
from retrieveall.types import Entity, Route

__all__ = [
    "LABELS",
    "RunningSet",
    "SetScore",
    "counts_as_json",
    "measure_running",
    "negatives",
    "read_running",
    "score_set",
    "summarise",
]

LABELS = ("PER", "LOC", "ORG")
UNKNOWN = ("unknown", "no_letters", "fallback")
"""Reasons of routes of texts that no language of the pool seems to fit."""


@dataclass(frozen=True)
class RunningSet:
    """The first sentences of one validation file; ``name`` is LANGUAGE/CORPUS."""

    name: str
    sentences: tuple[RawSentence, ...]

    @property
    def language(self) -> str:
        return self.name.partition("/")[0]

    @property
    def texts(self) -> list[str]:
        return [raw.sentence.text for raw in self.sentences]


def read_running(
    folder: Path, *, sets: Collection[str] | None = None, limit: int | None = None, languages: Collection[str] = ()
) -> list[RunningSet]:
    """The sets in ``folder/train/LANGUAGE/CORPUS`` and ``folder/measure/LANGUAGE/CORPUS``, sorted by name.

    Args:
        sets: names of the sets to read, such as ``en/btc``; None: all.
        limit: maximum number of sentences a set.
        languages: only these, if any are given.

    Raises:
        InputError: no sets, or one in ``sets`` that does not exist.
    """
    files = {
        f"{path.parts[-3]}/{path.parts[-2]}": path
        for part in ("train", "measure")
        for path in folder.glob(f"{part}/*/*/validation.tsv")
    }
    if not files:
        raise InputError(f"expected {folder}/train/LANGUAGE/CORPUS/validation.tsv, found no such file; check --ner")
    if unknown := sorted(set(sets or ()) - set(files)):
        raise InputError(f"expected sets among {', '.join(sorted(files))}; got {', '.join(unknown)}")
    found = (_read_set(name, files[name], limit) for name in sorted(files) if sets is None or name in sets)
    return [each for each in found if not languages or each.language in languages]


def _read_set(name: str, path: Path, limit: int | None) -> RunningSet:
    sentences = islice(read_corpus(path, language=name.partition("/")[0]), limit)
    return RunningSet(name, tuple(raw_text(sentence) for sentence in sentences))


@dataclass(frozen=True)
class SetScore:
    """What the predictions of one set are worth.

    Attributes:
        scores: counts of the widened spans by label.
        entity_free: number of sentences without a gold entity.
        spurious: number of those with a predicted one.
        judged: the probability of every predicted entity that has one, and whether its widened span is correct.
    """

    sentences: int
    scores: SpanScores
    entity_free: int
    spurious: int
    judged: tuple[tuple[float, bool], ...]

    def as_json(self) -> dict[str, Any]:
        """Counts and ratios, the latter from 0 to 1."""
        return {
            "sentences": self.sentences,
            **counts_as_json(self.scores.micro),
            "by_label": {label: counts_as_json(counts) for label, counts in self.scores.by_label.items()},
            "entity_free": self.entity_free,
            "spurious": self.spurious,
        }


def score_set(sentences: Sequence[RawSentence], found: Sequence[Iterable[Entity]]) -> SetScore:
    """Compare the predicted entities of each sentence with its gold ones; other labels than ``LABELS`` are left out."""
    gold = [[each for each in raw.sentence.entities if each.label in LABELS] for raw in sentences]
    widened = [_widened(some, raw.tokens) for raw, some in zip(sentences, found, strict=True)]
    judged = []
    for right, guesses in zip(gold, widened, strict=True):
        wanted = {(each.start, each.end, each.label) for each in right}
        judged += [(e.score, (e.start, e.end, e.label) in wanted) for e in guesses if e.score is not None]
    free = [guesses for right, guesses in zip(gold, widened, strict=True) if not right]
    return SetScore(len(gold), score_spans(gold, widened), len(free), sum(map(bool, free)), tuple(judged))


def _widened(entities: Iterable[Entity], tokens: Sequence[tuple[int, int]]) -> list[Entity]:
    kept = [each for each in entities if each.label in LABELS]
    spans = widen(((each.start, each.end, each.label) for each in kept), tokens)
    return [Entity(*span, score=each.score) for span, each in zip(spans, kept, strict=True)]


def counts_as_json(counts: Counts) -> dict[str, Any]:
    """The ratios from 0 to 1, and what they are made of."""
    return {
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "correct": counts.correct,
        "predicted": counts.predicted,
        "gold": counts.gold,
    }


def measure_running(model: Predictor, sets: Sequence[RunningSet]) -> dict[str, Any]:
    """Scores and routes of every set, their means, and the calibration error of all predicted entities together."""
    by_set: dict[str, dict[str, Any]] = {}
    judged: list[tuple[float, bool]] = []
    for each in sets:
        predictions = predict_all(model, each.texts, each.name)
        score = score_set(each.sentences, [prediction.entities for prediction in predictions])
        judged += score.judged
        routes = _routes_as_json([prediction.route for prediction in predictions], each.language)
        by_set[each.name] = score.as_json() | routes
    probabilities, correct = [probability for probability, _ in judged], [right for _, right in judged]
    return {
        **summarise(by_set),
        "calibration_error": expected_calibration_error(probabilities, correct) if judged else None,
        "scored_entities": len(judged),
    }


def _routes_as_json(routes: Sequence[Route], language: str) -> dict[str, Any]:
    """The shares of routes whose heaviest adapter is that of the language, and of texts that fit no language."""
    reasons = Counter(route.reason for route in routes)
    count = max(len(routes), 1)
    return {
        "routed_right": sum(route.language == language for route in routes) / count,
        "unknown_routes": sum(reasons[reason] for reason in UNKNOWN) / count,
        "reasons": dict(sorted(reasons.items())),
    }


def summarise(by_set: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sets, the mean of each language's sets, and the mean of the languages."""
    keys = ("f1", "precision", "recall", "routed_right", "unknown_routes")
    measures = [key for key in keys if all(key in score for score in by_set.values())]
    languages = {}
    for language in dict.fromkeys(name.partition("/")[0] for name in by_set):
        own = [score for name, score in by_set.items() if name.startswith(f"{language}/")]
        languages[language] = {key: fmean(score[key] for score in own) for key in measures}
    mean = {key: fmean(each[key] for each in languages.values()) for key in measures} if languages else {}
    return {"sets": dict(by_set), "languages": languages, "mean": mean}


def negatives(running: Mapping[str, Any]) -> dict[str, Any]:
    """Of the sentences without a gold entity, the share that gets one: by set and in all.

    Args:
        running: what ``measure_running`` returned.
    """
    sets = {
        name: {
            "entity_free": score["entity_free"],
            "spurious": score["spurious"],
            "rate": score["spurious"] / score["entity_free"] if score["entity_free"] else None,
        }
        for name, score in running["sets"].items()
    }
    free, spurious = (sum(each[key] for each in sets.values()) for key in ("entity_free", "spurious"))
    return {"sets": sets, "entity_free": free, "spurious": spurious, "rate": spurious / free if free else None}
