"""What the shipped models find in text of their users: a floor below which a change is not to fall.

The samples are small (50 sentences a language and set), so the floors lie some points below what was measured; the
measured figures are in the model cards.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from recipes.measure.ordinary import Marked, read_ordinary
from retrieveall import RetrieveAll
from retrieveall.data import read_corpus
from retrieveall.evaluation import evaluate, score_spans
from retrieveall.types import Prediction

SAMPLES = Path(__file__).parent / "samples"
LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")

pytestmark = pytest.mark.slow


@cache
def base() -> RetrieveAll:
    return RetrieveAll.from_pretrained("base", device="cpu")


@cache
def ordinary() -> tuple[Marked, ...]:
    return tuple(read_ordinary(SAMPLES / "ordinary.txt"))


@cache
def found() -> tuple[Prediction, ...]:
    return tuple(base().predict([each.text for each in ordinary()]))


def f1(kind: str | None = None) -> float:
    """Over the ordinary texts of a kind, or over all."""
    pairs = [pair for pair in zip(ordinary(), found(), strict=True) if kind in (None, pair[0].kind)]
    return score_spans((gold.entities for gold, _ in pairs), (each.entities for _, each in pairs)).micro.f1


@cache
def mini() -> RetrieveAll:
    return RetrieveAll.from_pretrained("mini", device="cpu")


@pytest.mark.parametrize(
    ("model", "name", "floor"),
    [(base, "running", 0.71), (base, "panx", 0.76), (mini, "running", 0.58), (mini, "panx", 0.78)],
)
def test_f1_of_the_samples(model: Callable[[], RetrieveAll], name: str, floor: float) -> None:
    files = sorted((SAMPLES / name).glob("*.jsonl"))
    sentences = {path.stem: list(read_corpus(path, language=path.stem)) for path in files}
    report = evaluate(model(), sentences)
    assert report.mean["f1"] is not None
    assert report.mean["f1"] >= floor


@pytest.mark.parametrize(("model", "ceiling"), [(base, 0.15), (mini, 0.25)])
def test_sentences_without_a_name_get_none(model: Callable[[], RetrieveAll], ceiling: float) -> None:
    files = sorted((SAMPLES / "running").glob("*.jsonl"))
    texts = [each.text for path in files for each in read_corpus(path, language=path.stem) if not each.entities]
    spurious = sum(bool(prediction.entities) for prediction in model().predict(texts))
    assert spurious <= ceiling * len(texts)


def test_ordinary_texts() -> None:
    assert f1() >= 0.88


@pytest.mark.parametrize(
    "kind",
    ["sentence end", "line breaks", "short", "case", "greeting", "normal form", "particles", "mixed", "markup",
     "well known"],
)  # fmt: skip
def test_ordinary_texts_by_kind(kind: str) -> None:
    assert f1(kind) >= 0.6


def test_texts_of_ordinary_life_without_a_name_get_none() -> None:
    wrong = [
        (prediction.text, [each.text for each in prediction.entities])
        for gold, prediction in zip(ordinary(), found(), strict=True)
        if gold.kind == "no name" and prediction.entities
    ]
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize(("model", "floor"), [(base, 0.78), (mini, 0.74)])
def test_everyday_texts(model: Callable[[], RetrieveAll], floor: float) -> None:
    texts = read_ordinary(SAMPLES / "everyday.txt")
    predictions = model().predict([each.text for each in texts])
    score = score_spans((gold.entities for gold in texts), (each.entities for each in predictions)).micro
    assert score.f1 >= floor


def test_texts_in_languages_that_are_not_in_the_pool_are_named_so() -> None:
    texts = (SAMPLES / "not-in-the-pool.txt").read_text(encoding="utf-8").splitlines()
    predictions = base().predict(texts)
    assert [(each.text, each.route.reason) for each in predictions if each.route.reason != "unknown"] == []
    assert all(not each.route.adapters for each in predictions)


IN_A_DOCUMENT = [
    "习近平昨天访问了上海。",
    "Angela Merkel traveled to Paris on Monday.",
    "김민수는 삼성전자에서 일한다.",
    "Владимир Путин посетил вчера Казань.",
    "安倍晋三は東京で生まれた。",
]


@pytest.mark.parametrize("join", ["\n", "\n\n", " "])
def test_a_name_in_a_document_scores_as_it_does_alone(join: str) -> None:
    alone = [(e.text, e.score) for each in base().predict(IN_A_DOCUMENT) for e in each.entities]
    [document] = base().predict([join.join(IN_A_DOCUMENT)])
    assert [e.text for e in document.entities] == [text for text, _ in alone]
    assert [e.score for e in document.entities] == pytest.approx([score for _, score in alone], abs=0.02)
    assert set(document.route.adapters) == {"zh", "en", "ko", "ru", "ja"}


def test_a_sentence_that_is_repeated_keeps_its_names() -> None:
    for count in (2, 10, 40):
        [text] = base().predict([" ".join(["Tim Cook works for Apple in Cupertino."] * count)])
        assert [e.text for e in text.entities].count("Tim Cook") == count
