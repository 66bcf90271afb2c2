"""F1 of predictions, its mean and deviation over seeds, and the paired bootstrap between two methods.

Spans are (start, end, label). F1 is micro F1 over entities, as seqeval counts in its default mode; strict F1 leaves out
gold entities with ill-formed tags, as its strict mode does; macro F1 is the mean over labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.errors import InputError
from retrieveall.evaluation.spans import Counts, Span, SpanScores

__all__ = ["Comparison", "Row", "compare", "count", "f1_of", "macro_f1", "score", "summary"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One test sentence: gold and predicted spans.

    ``well_formed`` and ``seen`` belong to the gold spans: whether seqeval's strict mode counts it, and whether its
    words are a mention of the training sentences of the language. ``in_train``: the sentence is a training sentence.
    ``probabilities`` belong to the predicted spans; empty for a method that gives none. ``routed`` is the language that
    was chosen, None where nothing chooses.
    """

    gold: tuple[Span, ...]
    predicted: tuple[Span, ...]
    well_formed: tuple[bool, ...]
    seen: tuple[bool, ...]
    in_train: bool = False
    probabilities: tuple[float, ...] = ()
    routed: str | None = None


def score(rows: Sequence[Row], *, strict: bool = False) -> SpanScores:
    """Counts by label."""
    scores: dict[str, Counts] = {}
    for row in rows:
        gold = _gold(row, strict)
        predicted = set(row.predicted)
        for label in {span[2] for span in gold | predicted}:
            own_gold, own = ({s for s in spans if s[2] == label} for spans in (gold, predicted))
            scores[label] = scores.get(label, Counts()) + Counts(len(own_gold & own), len(own), len(own_gold))
    return SpanScores(dict(sorted(scores.items())))


def _gold(row: Row, strict: bool) -> set[Span]:
    return {span for span, fine in zip(row.gold, row.well_formed, strict=True) if fine or not strict}


def macro_f1(scores: SpanScores) -> float:
    """The mean over the labels that occur in gold or predictions, as seqeval's macro average."""
    f1s = [counts.f1 for counts in scores.by_label.values()]
    return sum(f1s) / len(f1s) if f1s else 0.0


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The scores of one language in one run, 0 to 1."""
    scores = score(rows)
    unseen = score([row for row in rows if not row.in_train]).micro
    return {
        "f1": scores.micro.f1,
        "precision": scores.micro.precision,
        "recall": scores.micro.recall,
        "strict_f1": score(rows, strict=True).micro.f1,
        "macro_f1": macro_f1(scores),
        "by_label": {label: counts.f1 for label, counts in scores.by_label.items()},
        "unseen_f1": unseen.f1 if unseen.gold else None,
        "sentences": len(rows),
    }


def count(rows: Sequence[Row]) -> Ints:
    """Correct, predicted and gold spans of each sentence, [sentences, 3]."""
    table = [[len(set(r.gold) & set(r.predicted)), len(set(r.predicted)), len(set(r.gold))] for r in rows]
    return np.array(table, dtype=np.int64).reshape(-1, 3)


def f1_of(counts: Any) -> Any:
    """Micro F1 of summed counts [..., 3]; 0 without a correct span."""
    total = counts[..., 1] + counts[..., 2]
    return np.divide(2.0 * counts[..., 0], total, out=np.zeros(total.shape), where=total > 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference in F1 of a method to another one: the mean over languages and seeds, its 95% interval, and p.

    ``p`` is two-sided: twice the share of resamples in which the difference has the other sign, at most 1.
    """

    difference: float
    low: float
    high: float
    p: float


def compare(
    method: Mapping[str, Sequence[Ints]],
    other: Mapping[str, Sequence[Ints]],
    *,
    resamples: int = 2000,
    seed: int = 13,
) -> Comparison:
    """Paired bootstrap over test sentences (Berg-Kirkpatrick et al. 2012), drawn within each language.

    Both methods are scored on the same drawn sentences; F1 is the mean over the seeds of a language, then over
    languages. What differs from seed to seed is part of the means and not resampled.

    Args:
        method: for each language the counts [sentences, 3] of each seed, see ``count``.
        other: the same languages and sentences.

    Raises:
        InputError: other languages or numbers of sentences.
    """
    if not method or set(method) != set(other):
        raise InputError(f"expected the same languages to compare, got {sorted(method)} and {sorted(other)}")
    rng = np.random.default_rng(seed)
    found = np.zeros(resamples)
    observed = 0.0
    for language in sorted(method):
        ours, theirs = np.stack(method[language]), np.stack(other[language])
        if ours.shape[1:] != theirs.shape[1:]:
            raise InputError(
                f"expected the same test sentences in {language!r}, got {ours.shape[1]} and {theirs.shape[1]}"
            )
        observed += _mean_f1(ours.sum(axis=1)) - _mean_f1(theirs.sum(axis=1))
        found += _resampled(ours, theirs, resamples, rng)
    found, observed = found / len(method), observed / len(method)
    low, high = np.quantile(found, [0.025, 0.975])
    tail = min(float(np.mean(found <= 0)), float(np.mean(found >= 0)))
    return Comparison(float(observed), float(low), float(high), min(1.0, 2 * tail))


def _mean_f1(totals: Ints) -> Any:
    """Over seeds: [..., seeds, 3] to [...]."""
    return f1_of(totals).mean(axis=-1)


_CELLS = 1 << 22  # of drawn numbers at once: 32 MB


def _resampled(ours: Ints, theirs: Ints, resamples: int, rng: np.random.Generator) -> Floats:
    """The difference of mean F1 in each resample; counts are [seeds, sentences, 3]."""
    sentences = ours.shape[1]
    step = max(1, _CELLS // max(1, sentences))
    parts = []
    for first in range(0, resamples, step):
        drawn = rng.multinomial(sentences, np.full(sentences, 1 / sentences), size=min(step, resamples - first))
        totals = [np.einsum("bn,snk->bsk", drawn, counts, optimize=True) for counts in (ours, theirs)]
        parts.append(_mean_f1(totals[0]) - _mean_f1(totals[1]))
    return np.concatenate(parts)
