"""From scores of tags to labelled spans with probabilities. Knows words by number, not models."""

from __future__ import annotations

from retrieveall.decoding.answers import SKIP, ParsedAnswer, parse_answer, shown_text, write_answer
from retrieveall.decoding.calibration import (
    UNCALIBRATED,
    Calibration,
    calibrate,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
)
from retrieveall.decoding.grammar import AnswerGrammar, AnswerState, fill_masks
from retrieveall.decoding.lattice import ScoredSpan, decode_batch
from retrieveall.decoding.spans import to_entities, to_word_spans
from retrieveall.decoding.tags import OUTSIDE, TagSet
from retrieveall.decoding.windows import Window, cut_windows, merge_scores, merge_spans

__all__ = [
    "OUTSIDE",
    "SKIP",
    "UNCALIBRATED",
    "AnswerGrammar",
    "AnswerState",
    "Calibration",
    "ParsedAnswer",
    "ScoredSpan",
    "TagSet",
    "Window",
    "calibrate",
    "cut_windows",
    "decode_batch",
    "expected_calibration_error",
    "fill_masks",
    "fit_calibration",
    "fit_temperature",
    "merge_scores",
    "merge_spans",
    "parse_answer",
    "shown_text",
    "to_entities",
    "to_word_spans",
    "write_answer",
]
