"""Evaluation of a fake model whose every figure can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from known_names import KnownNames
from retrieveall.errors import EngineError, InputError, LanguageError
from retrieveall.evaluation import Counts, EvaluationReport, evaluate, training_texts
from retrieveall.evaluation.evaluator import BATCH
from retrieveall.types import AnswerFaults, Knowledge, Prediction, Route, Sentence


def test_scores_of_each_language(model: Any, gold: dict[str, list[Sentence]]) -> None:
    report = evaluate(model, gold)
    german, english = report.languages["de"], report.languages["en"]
    assert german.scores.by_label == {
        "LOC": Counts(0, 0, 1),
        "ORG": Counts(0, 1, 0),
        "PER": Counts(1, 1, 1),
    }
    assert (german.f1, english.f1) == (0.5, 0.5)
    assert english.scores.micro == Counts(1, 2, 2)
    assert report.mean["f1"] == 0.5
    assert report.labels == ("LOC", "ORG", "PER")


def test_sentences_that_stand_in_train_are_left_out_whatever_their_language(
    model: Any, gold: dict[str, list[Sentence]]
) -> None:
    english = evaluate(model, gold).languages["en"]
    assert english.unseen_sentences == 2
    assert english.unseen is not None
    assert english.unseen.micro == Counts(0, 1, 0)
    assert english.unseen_f1 == 0.0


def test_seen_texts_replace_those_of_the_model(model: Any, gold: dict[str, list[Sentence]]) -> None:
    english = evaluate(model, gold, seen_texts=["it rains"]).languages["en"]
    assert english.unseen_sentences == 2
    assert english.unseen is not None
    assert english.unseen.micro == Counts(1, 1, 2)


def test_without_knowledge_the_unseen_score_is_unknown(
    make_model: Callable[..., Any], gold: dict[str, list[Sentence]]
) -> None:
    report = evaluate(make_model({}, {}), gold)
    assert report.languages["en"].unseen is None
    assert report.mean["unseen_f1"] is None


def test_training_texts_are_those_of_all_languages(model: Any) -> None:
    assert training_texts(model) == {"Ada is in Paris", "unrelated"}


def test_routing_accuracy(model: Any, gold: dict[str, list[Sentence]]) -> None:
    routed, fixed = evaluate(model, gold), evaluate(model, gold, language="gold")
    assert [one.routing_accuracy for one in routed.languages.values()] == [0.0, 1.0]
    assert [one.routing_accuracy for one in fixed.languages.values()] == [1.0, 1.0]
    assert (routed.choice, fixed.choice) == ("routed", "gold")


def test_a_language_that_the_model_lacks_has_no_routing_accuracy(
    make_model: Callable[..., Any], gold: dict[str, list[Sentence]]
) -> None:
    report = evaluate(make_model({}, {}, languages=("en",)), gold)
    assert [one.routing_accuracy for one in report.languages.values()] == [None, 1.0]
    assert report.mean["routing_accuracy"] == 1.0
    assert EvaluationReport.from_dict(report.to_dict()).languages["de"].routing_accuracy is None
    row = next(line for line in report.to_markdown().splitlines() if line.startswith("| de "))
    assert "| – |" in row


def test_calibration_error(model: Any, gold: dict[str, list[Sentence]]) -> None:
    # In bins of their own: right at 0.9, wrong at 0.6. Right at 1.0, wrong at 0.5.
    reports = evaluate(model, gold).languages
    assert reports["de"].calibration_error == pytest.approx((0.1 + 0.6) / 2)
    assert reports["en"].calibration_error == pytest.approx((0.0 + 0.5) / 2)


def test_no_predicted_entity_has_no_calibration_error(
    make_model: Callable[..., Any], gold: dict[str, list[Sentence]]
) -> None:
    assert evaluate(make_model({}, {}), gold).languages["en"].calibration_error is None


def test_spurious_entities(model: Any, gold: dict[str, list[Sentence]]) -> None:
    reports = evaluate(model, gold).languages
    assert (reports["en"].entity_free, reports["en"].spurious, reports["en"].spurious_rate) == (2, 1, 0.5)
    assert (reports["de"].entity_free, reports["de"].spurious_rate) == (0, None)


def test_faults_of_answers_are_counted_by_sentence(gold: dict[str, list[Sentence]]) -> None:
    texts = [each.text for some in gold.values() for each in some]
    faults = dict(
        zip(texts, [AnswerFaults(), AnswerFaults(3, 0, 1), AnswerFaults(1, 1, 0), AnswerFaults()], strict=True)
    )

    class Writer:
        def predict(self, texts: Sequence[str], *, language: str | None = None) -> list[Prediction]:
            return [Prediction(text, (), Route(), Knowledge(), faults[text]) for text in texts]

    report = evaluate(Writer(), gold)
    assert (report.languages["de"].faults, report.languages["en"].faults) == (AnswerFaults(), AnswerFaults(2, 1, 1))
    loaded = EvaluationReport.from_dict(json.loads(report.to_json()))
    assert [one.faults for one in loaded.languages.values()] == [AnswerFaults(), AnswerFaults(2, 1, 1)]
    header, _, german, english, mean = report.to_markdown().splitlines()
    assert header.endswith("| malformed | invented | unknown | sentences/s |")
    assert [line.split(" | ")[-4:-1] for line in (german, english, mean)] == [
        ["0.0", "0.0", "0.0"], ["66.7", "33.3", "33.3"], ["33.3", "16.7", "16.7"]
    ]  # fmt: skip


def test_a_model_that_tags_has_no_faults(model: Any, gold: dict[str, list[Sentence]]) -> None:
    report = evaluate(model, gold)
    assert report.languages["de"].faults is None
    assert "malformed" not in report.to_markdown()
    raw = report.to_dict()
    del raw["languages"]["de"]["faults"]  # as in reports of older versions
    assert EvaluationReport.from_dict(raw).languages["de"].faults is None


def test_limit_batches_and_progress(make_model: Callable[..., Any]) -> None:
    sentences = [Sentence(f"text {i}") for i in range(2 * BATCH + 9)]
    model, calls = make_model({}, {}), []
    report = evaluate(model, {"en": sentences}, limit=BATCH + 5, progress=lambda *call: calls.append(call))
    assert report.languages["en"].sentences == BATCH + 5
    assert model.batches == [BATCH, 5]
    assert calls == [("en", BATCH, BATCH + 5), ("en", BATCH + 5, BATCH + 5)]


def test_a_stream_is_read_no_further_than_the_limit(make_model: Callable[..., Any]) -> None:
    calls: list[Any] = []
    stream = (Sentence(f"text {i}") for i in range(10))
    evaluate(make_model({}, {}), {"en": stream}, limit=4, progress=lambda *call: calls.append(call))
    assert calls == [("en", 4, None)]
    assert next(stream).text == "text 4"


def test_a_sentence_that_the_engine_fails_on_is_named_by_its_id() -> None:
    sentences = [
        Sentence(f"text {number}", (), "de", "" if number % 2 else f"de-{number}") for number in range(BATCH + 5)
    ]
    model = KnownNames({"Ada": ("PER", 0.9)})
    for bad, name in ((BATCH + 2, f"de-{BATCH + 2}"), (BATCH + 3, BATCH + 3), (4, "de-4")):
        model.failing = {f"text {bad}"}
        with pytest.raises(EngineError, match=rf"failed: sentence {name}: no answer$") as caught:
            evaluate(model, {"de": sentences})  # type: ignore[arg-type]
        assert dict(caught.value.failures) == {bad: "no answer"}


def test_batches_do_not_change_the_figures(
    model: Any, gold: dict[str, list[Sentence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures() -> dict[str, Any]:
        report = evaluate(model, gold).to_dict()
        for one in report["languages"].values():
            del one["seconds"], one["sentences_per_second"]
        return {**report, "provenance": None}

    whole = figures()
    monkeypatch.setattr("retrieveall.evaluation.evaluator.BATCH", 1)
    assert figures() == whole
    assert model.batches[-4:] == [1, 1, 1, 1]


def test_seconds_are_those_of_the_model(
    model: Any, gold: dict[str, list[Sentence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.0, 20.0, 21.5])
    monkeypatch.setattr("retrieveall.evaluation.evaluator.time.perf_counter", lambda: next(clock))
    reports = evaluate(model, gold).languages
    assert [one.seconds for one in reports.values()] == [2.0, 1.5]
    assert [one.sentences_per_second for one in reports.values()] == [0.5, 2.0]


@pytest.mark.parametrize(
    ("sentences", "options", "message"),
    [
        ({}, {}, "at least one language"),
        ({"en": []}, {}, "sentences of 'en'"),
        ({"en": [Sentence("a")]}, {"limit": 0}, "limit of at least 1, got 0"),
        ({"en": [Sentence("a")]}, {"language": "en"}, "'routed' or 'gold', got 'en'"),
    ],
)
def test_bad_input(model: Any, sentences: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(model, sentences, **options)


def test_a_gold_language_that_the_model_does_not_have(model: Any) -> None:
    with pytest.raises(LanguageError):
        evaluate(model, {"xx": [Sentence("a")]}, language="gold")


def test_the_report_is_plain_json(model: Any, gold: dict[str, list[Sentence]]) -> None:
    report = evaluate(model, gold, data="toy test")
    raw = json.loads(report.to_json())
    assert raw["data"] == "toy test"
    assert raw["languages"]["en"]["labels"]["PER"]["correct"] == 1
    assert raw["provenance"]["model"] == "fake"
