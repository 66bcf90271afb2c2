"""Evaluation: span F1 by language, calibration, routing accuracy and speed."""

from __future__ import annotations

from retrieveall.evaluation.evaluator import Predictor, Progress, evaluate, training_texts
from retrieveall.evaluation.provenance import Provenance
from retrieveall.evaluation.report import EvaluationReport, LanguageChoice, LanguageReport
from retrieveall.evaluation.results import load_reports, render_table
from retrieveall.evaluation.spans import Counts, SpanScores, score_spans, widen
from retrieveall.evaluation.speed import cold_start, measure, peak_memory, throughput

__all__ = [
    "Counts",
    "EvaluationReport",
    "LanguageChoice",
    "LanguageReport",
    "Predictor",
    "Progress",
    "Provenance",
    "SpanScores",
    "cold_start",
    "evaluate",
    "load_reports",
    "measure",
    "peak_memory",
    "render_table",
    "score_spans",
    "throughput",
    "training_texts",
    "widen",
]
