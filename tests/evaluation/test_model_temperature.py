"""Fitting a model's temperature through its scores."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrieveall.config import DecoderConfig, LabelConfig, ModelConfig, PromptConfig
from retrieveall.data import segment
from retrieveall.decoding import TagSet, fit_temperature
from retrieveall.engines.base import TagRequest
from retrieveall.errors import InputError
from retrieveall.evaluation import fit_model_temperature
from retrieveall.pipeline import RetrieveAll
from retrieveall.types import Entity, Knowledge, Sentence

LABELS = ("LOC", "PER")
TAGS = TagSet(LABELS)


class Scorer:
    """Fixed random logits for every text, given out as log-probabilities under a temperature."""

    labels = LABELS

    def __init__(self, temperature: float = 1.0) -> None:
        self.config = SimpleNamespace(decoder=SimpleNamespace(temperature=temperature))
        self.languages: list[str | None] = []

    def logits(self, text: str) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng(sum(text.encode()))
        rows = rng.normal(0, 4, (len(segment(text)), len(TAGS)))
        rows[:, [tag[0] not in "OS" for tag in TAGS.tags]] = -30.0  # gold is of single words
        return rows

    def scores(self, texts: Sequence[str], *, language: str | None = None) -> list[Any]:
        self.languages.append(language)
        scaled = [self.logits(text) / self.config.decoder.temperature for text in texts]
        return [rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)) for rows in scaled]


def corpus(language: str) -> list[Sentence]:
    """Sentences whose gold tags are about what the logits say under a temperature near 3."""
    rng = np.random.default_rng(7)
    sentences = []
    for i in range(150):
        text = f"{language} number {i} went home"
        words, rows = segment(text), Scorer().logits(text) / 3
        entities = []
        for word, row in zip(words, rows, strict=True):
            tag = TAGS.tags[rng.choice(len(TAGS), p=np.exp(row) / np.exp(row).sum())]
            if tag[0] == "S":
                entities.append(Entity(word.start, word.end, tag[2:], word.text))
        sentences.append(Sentence(text, tuple(entities), language))
    return sentences


def by_hand(sentences: list[Sentence]) -> float:
    """The best temperature on a grid, by the mean log-probability of the gold tags."""
    rows = np.concatenate([Scorer().logits(sentence.text) for sentence in sentences])
    gold = []
    for sentence in sentences:
        labels = {entity.start: entity.label for entity in sentence.entities}
        gold += [
            TAGS.tags.index(f"S-{labels[word.start]}") if word.start in labels else 0 for word in segment(sentence.text)
        ]
    grid = np.exp(np.linspace(np.log(0.5), np.log(10), 500))

    def likelihood(temperature: float) -> float:
        scaled = rows / temperature
        log = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return float(log[np.arange(len(gold)), gold].mean())

    return float(max(grid, key=likelihood))


@pytest.mark.parametrize("current", [1.0, 2.5])
def test_it_is_the_likeliest_whatever_the_temperature_in_use(current: float) -> None:
    english, german = corpus("en"), corpus("de")
    found = fit_model_temperature(Scorer(current), {"en": english, "de": german})  # type: ignore[arg-type]
    assert found == pytest.approx(by_hand(english + german), rel=0.01)


def test_limit_and_language_reach_the_model() -> None:
    model = Scorer()
    sentences = corpus("en")
    found = fit_model_temperature(model, {"en": sentences}, language="told", limit=20)  # type: ignore[arg-type]
    assert model.languages == ["en"]
    assert found == pytest.approx(fit_model_temperature(Scorer(), {"en": sentences[:20]}))  # type: ignore[arg-type]


def test_texts_without_words_are_passed_over() -> None:
    sentences = corpus("en")
    blanks = [Sentence(" "), *sentences, Sentence("")]
    expected = fit_model_temperature(Scorer(), {"en": sentences})  # type: ignore[arg-type]
    assert fit_model_temperature(Scorer(), {"en": blanks}) == expected  # type: ignore[arg-type]


def test_words_inside_the_windows_line_up_with_gold() -> None:
    """Gold tags that the logits put first drive the temperature to its lower limit; shifted ones do not."""
    text = "Ada went to Paris"
    model = Scorer()
    peaked = np.full((4, len(TAGS)), -1.0)
    peaked[np.arange(4), [TAGS.index("S", "PER"), 0, 0, TAGS.index("S", "LOC")]] = 1.0
    model.logits = lambda _: peaked  # type: ignore[method-assign]
    gold = Sentence(text, (Entity(0, 3, "PER", "Ada"), Entity(12, 17, "LOC", "Paris")))
    assert fit_model_temperature(model, {"en": [gold]}) == pytest.approx(0.1, rel=0.01)  # type: ignore[arg-type]
    assert fit_temperature(peaked, np.zeros(4, dtype=int)) > 0.2


def test_bad_input() -> None:
    with pytest.raises(InputError, match="sentences with words"):
        fit_model_temperature(Scorer(), {"en": [Sentence(" ")]})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'ORG'"):
        fit_model_temperature(Scorer(), {"en": [Sentence("A", (Entity(0, 1, "ORG"),))]})  # type: ignore[arg-type]


class WordEngine:
    """Scores every word by its text alone, so that windows cannot matter."""

    def count(self, piece: object) -> int:
        return 1

    def count_words(self, words: Sequence[object]) -> int:
        return len(words)

    def tag(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[np.float64]]:
        return [np.stack([self.row(word.text) for word in request.words]) for request in requests]

    def row(self, word: str) -> npt.NDArray[np.float64]:
        row = np.random.default_rng(sum(word.encode())).normal(0, 2, len(TAGS))
        return np.asarray(row - np.log(np.exp(row).sum()))


def pipeline(**decoder: int) -> RetrieveAll:
    config = ModelConfig(
        labels=tuple(LabelConfig(name=label) for label in LABELS),
        prompt=PromptConfig(template="plain.v1"),
        decoder=DecoderConfig(temperature=2.0, **decoder),  # type: ignore[arg-type]
    )
    knowledge = SimpleNamespace(retrieve=lambda texts, k, near_matches, partial_matches: [Knowledge() for _ in texts])
    folder = SimpleNamespace(config=config, languages=lambda: ("en",))
    return RetrieveAll(folder, WordEngine(), knowledge)  # type: ignore[arg-type]


def test_the_pipelines_scores_have_a_row_a_word_whatever_the_windows() -> None:
    text = "  ".join(f"word{i} and" for i in range(40))
    model, cut = pipeline(), pipeline(window_words=9, window_overlap=4)
    expected = np.stack([WordEngine().row(word.text) for word in segment(text)])
    whole, empty, short = model.scores([text, " ", "one"])
    assert np.array_equal(whole, expected)
    assert np.array_equal(cut.scores([text])[0], expected)
    assert len(empty) == 0
    assert np.array_equal(short[0], WordEngine().row("one"))


def test_the_temperature_of_a_pipeline() -> None:
    sentences = corpus("en")
    rows = np.concatenate([np.stack([WordEngine().row(w.text) for w in segment(s.text)]) for s in sentences])
    gold = []
    for sentence in sentences:
        labels = {entity.start: entity.label for entity in sentence.entities}
        gold += [TAGS.index("S", labels[w.start]) if w.start in labels else 0 for w in segment(sentence.text)]
    expected = 2.0 * fit_temperature(rows, np.array(gold))
    assert fit_model_temperature(pipeline(), {"en": sentences}) == pytest.approx(expected)
