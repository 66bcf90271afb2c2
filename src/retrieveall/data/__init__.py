"""Reading and writing corpora, tag schemes, word segmentation and text normalisation."""

from __future__ import annotations

from retrieveall.data.borders import find_borders, script_changes
from retrieveall.data.conll import is_unspaced, write_conll
from retrieveall.data.edges import has_letter, may_be_edge
from retrieveall.data.hub import read_hub
from retrieveall.data.jsonl import write_jsonl
from retrieveall.data.labels import check_label, check_labels
from retrieveall.data.normal import NormalText, normalise, normalise_sentence
from retrieveall.data.readers import Corpus, read_corpus, write_corpus
from retrieveall.data.schemes import Scheme, detect_scheme, ill_formed, spans_to_tags, tags_to_spans
from retrieveall.data.segmentation import MAX_WORD, segment
from retrieveall.data.splits import find_splits, splits_in
from retrieveall.data.validate import CorpusReport, Problem, SplitReport, validate
from retrieveall.data.word_spans import to_word_spans

__all__ = [
    "MAX_WORD",
    "Corpus",
    "CorpusReport",
    "NormalText",
    "Problem",
    "Scheme",
    "SplitReport",
    "check_label",
    "check_labels",
    "detect_scheme",
    "find_borders",
    "find_splits",
    "has_letter",
    "ill_formed",
    "is_unspaced",
    "may_be_edge",
    "normalise",
    "normalise_sentence",
    "read_corpus",
    "read_hub",
    "script_changes",
    "segment",
    "spans_to_tags",
    "splits_in",
    "tags_to_spans",
    "to_word_spans",
    "validate",
    "write_conll",
    "write_corpus",
    "write_jsonl",
]
