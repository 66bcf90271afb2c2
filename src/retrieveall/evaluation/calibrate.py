"""Fits the temperature of a model on gold sentences, through the pipeline's own prompts and windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from retrieveall.data import segment
from retrieveall.decoding import Calibration, TagSet, decode_batch, fit_calibration, fit_temperature, to_word_spans
from retrieveall.errors import InputError
from retrieveall.evaluation.evaluator import batches
from retrieveall.evaluation.report import LanguageChoice
from retrieveall.types import Sentence

if TYPE_CHECKING:
    from retrieveall.pipeline import RetrieveAll

__all__ = ["fit_model_calibrations", "fit_model_temperature"]


def fit_model_temperature(
    model: RetrieveAll,
    sentences_by_language: Mapping[str, Iterable[Sentence]],
    *,
    language: LanguageChoice = "routed",
    limit: int | None = None,
) -> float:
    """The ``decoder.temperature`` under which the gold tags of the words are likeliest.

    Changes nothing in the model. Use validation data: on sentences that stand in the model's knowledge it is
    right more often than on new text.

    Args:
        sentences_by_language: gold sentences; all words of all languages count alike.
        language: as in ``evaluate``.
        limit: use the first so many sentences of each language.

    Raises:
        InputError: no words at all, or a label that the model does not have.
    """
    tags = TagSet(tuple(model.labels))
    scores, gold = [], []
    for name, sentences in sentences_by_language.items():
        for batch in batches(sentences, limit):
            texts = [sentence.text for sentence in batch]
            found = model.scores(texts, language=name if language == "told" else None)
            for sentence, rows in zip(batch, found, strict=True):
                words = segment(sentence.text)
                if words:
                    scores.append(rows)
                    gold.extend(tags.encode(to_word_spans(words, sentence.entities), len(words)))
    if not gold:
        raise InputError("expected sentences with words to fit the temperature on, got none")
    # The scores are log-softmax(logits / t0), t0 the temperature in use. A constant added to a row changes
    # nothing, so what is fitted to them is the factor between t0 and the best temperature.
    return model.config.decoder.temperature * fit_temperature(np.concatenate(scores), np.array(gold))


def fit_model_calibrations(
    model: RetrieveAll, sentences_by_language: Mapping[str, Iterable[Sentence]], *, limit: int | None = None
) -> dict[str, Calibration]:
    """For each language the ``calibration`` of its adapter card.

    Routed, under the temperature in use; what the cards say so far plays no part. Changes nothing in the model.
    """
    tags = TagSet(tuple(model.labels))
    fitted = {}
    for name, sentences in sentences_by_language.items():
        scores: list[float] = []
        words: list[int] = []
        around: list[int] = []
        right: list[bool] = []
        for batch in batches(sentences, limit):
            spans = decode_batch(tags, model.scores([sentence.text for sentence in batch]))
            for sentence, found in zip(batch, spans, strict=True):
                own = segment(sentence.text)
                gold = set(to_word_spans(own, sentence.entities))
                scores += [score for _, _, _, score in found]
                words += [end - start for start, end, _, _ in found]
                around += [len(own) - (end - start) for start, end, _, _ in found]
                right += [(start, end, label) in gold for start, end, label, _ in found]
        fitted[name] = fit_calibration(scores, words, around, right)
    return fitted
