"""Corpora in and out, tag schemes, segmentation of text into words. Knows no model and no label set."""

from __future__ import annotations

from retrieveall.data.conll import write_conll
from retrieveall.data.hub import read_hub
from retrieveall.data.jsonl import write_jsonl
from retrieveall.data.labels import check_labels
from retrieveall.data.readers import find_splits, read_corpus, read_texts, splits_in
from retrieveall.data.schemes import Scheme, detect_scheme, ill_formed, spans_to_tags, tags_to_spans
from retrieveall.data.segmentation import MAX_WORD, segment
from retrieveall.data.validate import CorpusReport, Problem, SplitReport, validate

__all__ = [
    "MAX_WORD",
    "CorpusReport",
    "Problem",
    "Scheme",
    "SplitReport",
    "check_labels",
    "detect_scheme",
    "find_splits",
    "ill_formed",
    "read_corpus",
    "read_hub",
    "read_texts",
    "segment",
    "spans_to_tags",
    "splits_in",
    "tags_to_spans",
    "validate",
    "write_conll",
    "write_jsonl",
]
