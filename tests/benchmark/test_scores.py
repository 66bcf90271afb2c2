"""F1, bootstrap and error analysis against independent references: seqeval, scipy, and by hand."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2

from retrieveall.benchmark.corpora import read_gold
from retrieveall.benchmark.errors import (
    Bin,
    Errors,
    analyse,
    confusion,
    expected_error,
    reliability,
    seen_recall,
    sentence_f1,
)
from retrieveall.benchmark.scores import Row, compare, count, f1_of, macro_f1, score, summary
from retrieveall.data import tags_to_spans
from retrieveall.decoders.calibration import expected_calibration_error
from retrieveall.errors import InputError

LABELS = ("PER", "ORG", "LOC")


def row(gold: list, predicted: list, **more: object) -> Row:
    fine = {"well_formed": (True,) * len(gold), "seen": (False,) * len(gold)}
    return Row(tuple(gold), tuple(predicted), **{**fine, **more})  # type: ignore[arg-type]


def _tags(choose: random.Random, length: int, *, ill_formed: bool) -> list[str]:
    tags = ["O", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI")]
    found = [choose.choice(tags) for _ in range(length)]
    if ill_formed:
        return found
    return [
        tag if tag[0] != "I" or (i and found[i - 1][2:] == tag[2:] and found[i - 1] != "O") else f"B{tag[1:]}"
        for i, tag in enumerate(found)
    ]


def _tagged(tmp_path: Path, gold: list[list[str]], predicted: list[list[str]]) -> list[Row]:
    """Rows as the corpus reader and a tagging method make them: words ``w0 w1 ...``."""
    path = tmp_path / "test.tsv"
    path.write_text("\n\n".join("\n".join(f"w{i}\t{tag}" for i, tag in enumerate(tags)) for tags in gold) + "\n")
    rows = []
    for each, tags in zip(read_gold(path, "en"), predicted, strict=True):
        text = each.sentence.text
        starts = [0, *(i + 1 for i, character in enumerate(text) if character == " ")]
        ends = [*(start - 1 for start in starts[1:]), len(text)]
        spans = [(starts[first], ends[last - 1], label) for first, last, label in tags_to_spans(tags)]
        own = [(e.start, e.end, e.label) for e in each.sentence.entities]
        rows.append(row(own, spans, well_formed=each.well_formed))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_that_of_seqeval_in_default_and_strict_mode(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    gold = [_tags(choose, choose.randint(3, 12), ill_formed=True) for _ in range(40)]
    gold[0] = ["B-PER", "I-PER", "O"]  # so that the scheme of the file is IOB2 and not IOB1
    gold += [["B-LOC", "O", "B-PER", "I-PER"]] * 60
    predicted = [
        [tag if choose.random() < 0.6 else "O" for tag in tags] if choose.random() < 0.5
        else _tags(choose, len(tags), ill_formed=False)
        for tags in gold
    ]  # fmt: skip
    predicted = [_well_formed(tags) for tags in predicted]
    rows = _tagged(tmp_path, gold, predicted)
    found = summary(rows)
    assert found["f1"] == pytest.approx(f1_score(gold, predicted))
    assert found["strict_f1"] == pytest.approx(f1_score(gold, predicted, mode="strict", scheme=IOB2))
    assert found["strict_f1"] != found["f1"]
    assert found["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    by_label = classification_report(gold, predicted, output_dict=True)
    assert found["by_label"] == pytest.approx({label: by_label[label]["f1-score"] for label in LABELS})


def _well_formed(tags: list[str]) -> list[str]:
    done: list[str] = []
    for tag in tags:
        before = done[-1] if done else "O"
        done.append(f"B{tag[1:]}" if tag[0] == "I" and (before == "O" or before[2:] != tag[2:]) else tag)
    return done


def _random_rows(choose: random.Random, number: int, quality: float) -> list[Row]:
    rows = []
    for _ in range(number):
        gold = [(10 * i, 10 * i + 5, choose.choice(LABELS)) for i in range(choose.randint(1, 3))]
        found = [span if choose.random() < quality else (span[0], span[1] + 1, span[2]) for span in gold]
        rows.append(row(gold, found))
    return rows


def test_the_interval_is_that_of_scipy() -> None:
    choose = random.Random(3)
    ours, theirs = (count(_random_rows(random.Random(1), 150, quality)) for quality in (0.7, 0.55))
    found = compare({"de": [ours]}, {"de": [theirs]}, resamples=4000)

    def difference(places: np.ndarray, axis: int = -1) -> np.ndarray:
        places = np.moveaxis(places, axis, -1)
        return f1_of(ours[places].sum(axis=-2)) - f1_of(theirs[places].sum(axis=-2))

    reference = stats.bootstrap(
        (np.arange(150),), difference, n_resamples=4000, method="percentile", rng=choose.randint(0, 9)
    )
    assert found.difference == pytest.approx(f1_of(ours.sum(axis=0)) - f1_of(theirs.sum(axis=0)))
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.01)


def test_p_separates_better_from_equal_and_is_the_same_both_ways() -> None:
    good, bad = (count(_random_rows(random.Random(seed), 200, quality)) for seed, quality in ((1, 0.9), (1, 0.4)))
    better, worse = compare({"de": [good]}, {"de": [bad]}), compare({"de": [bad]}, {"de": [good]})
    assert better.p < 0.001
    assert better.difference == pytest.approx(-worse.difference)
    assert better.p == worse.p
    same = compare({"de": [good]}, {"de": [good]})
    assert (same.difference, same.p) == (0.0, 1.0)


def test_p_is_uniform_where_nothing_differs() -> None:
    """Of two methods of the same quality, about one pair in ten has p below 0.1."""
    ps = []
    for seed in range(120):
        one, other = (count(_random_rows(random.Random(f"{seed} {side}"), 80, 0.6)) for side in "ab")
        ps.append(compare({"de": [one]}, {"de": [other]}, resamples=300, seed=seed).p)
    assert 0.02 < np.mean(np.array(ps) < 0.1) < 0.25


def test_languages_and_seeds_are_averaged() -> None:
    a, b, c = (count(_random_rows(random.Random(seed), 60, 0.5)) for seed in (1, 2, 3))
    found = compare({"de": [a, b], "en": [c]}, {"de": [b], "en": [c]})
    f1s = [float(f1_of(each.sum(axis=0))) for each in (a, b)]
    assert found.difference == pytest.approx((sum(f1s) / 2 - f1s[1]) / 2)


def test_other_sentences_cannot_be_compared() -> None:
    one, other = (count(_random_rows(random.Random(1), number, 0.5)) for number in (5, 6))
    with pytest.raises(InputError, match="the same test sentences"):
        compare({"de": [one]}, {"de": [other]})
    with pytest.raises(InputError, match="the same languages"):
        compare({"de": [one]}, {"en": [one]})


def test_errors_by_hand() -> None:
    rows = [
        row([(0, 5, "PER")], [(0, 5, "PER")]),  # correct
        row([(0, 5, "PER")], [(0, 7, "PER")]),  # boundary
        row([(0, 5, "PER")], [(0, 5, "LOC")]),  # type
        row([(0, 5, "PER")], [(3, 9, "LOC")]),  # both
        row([(0, 5, "PER")], []),  # missed
        row([(0, 5, "PER")], [(5, 9, "PER")]),  # missed and spurious: they touch and do not overlap
        row([(0, 9, "PER")], [(0, 4, "PER"), (4, 9, "LOC")]),  # one gold entity, one fault: boundary
        row([], [(0, 2, "ORG")]),  # spurious
    ]
    assert analyse(rows) == Errors(correct=1, boundary=2, type=1, both=1, missed=2, spurious=2)
    gold = score(rows).micro.gold
    found = analyse(rows)
    assert gold == found.correct + found.boundary + found.type + found.both + found.missed


def test_seen_mentions_and_sentences_by_hand() -> None:
    rows = [
        row([(0, 2, "PER"), (4, 6, "LOC")], [(0, 2, "PER")], seen=(True, False), in_train=True),
        row([(0, 2, "PER")], [(0, 2, "PER"), (4, 5, "LOC")], seen=(True,)),
    ]
    assert seen_recall(rows) == ((2, 2), (0, 1))
    assert sentence_f1(rows) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert sentence_f1(rows[:1])[1] is None


def test_calibration_error_is_that_of_the_evaluation() -> None:
    choose = random.Random(5)
    rows = []
    for _ in range(300):
        p = choose.random()
        gold = [(0, 2, "PER")] if choose.random() < p**2 else []
        rows.append(row(gold, [(0, 2, "PER")], probabilities=(p,)))
    right = [bool(each.gold) for each in rows]
    expected = expected_calibration_error([each.probabilities[0] for each in rows], right)
    assert expected_error(reliability(rows)) == pytest.approx(expected, abs=0.02)


def test_bins_by_hand() -> None:
    rows = [row([(0, 1, "A")], [(0, 1, "A"), (2, 3, "A")], probabilities=(0.95, 1.0)), row([], [(0, 1, "A")])]
    assert reliability(rows) == [Bin(pytest.approx(0.975), 0.5, 2)]  # type: ignore[arg-type]


def test_confusion_by_hand() -> None:
    rows = {"de": [row([], [], routed="de"), row([], [], routed="en")], "en": [row([], [])]}
    assert confusion(rows) == {"de": {"de": 1, "en": 1}}  # type: ignore[arg-type]


def test_macro_counts_predicted_labels_too() -> None:
    assert macro_f1(score([row([(0, 1, "A")], [(0, 1, "A"), (2, 3, "B")])])) == 0.5
