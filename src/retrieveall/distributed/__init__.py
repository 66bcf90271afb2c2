"""Prediction over corpora larger than a machine: blocks of rows, workers on a Ray cluster, a folder of results."""

from __future__ import annotations

from retrieveall.distributed.corpus import Corpus, find_corpus
from retrieveall.distributed.job import Done, Job, ModelOptions
from retrieveall.distributed.output import open_output
from retrieveall.distributed.run import run_job

__all__ = ["Corpus", "Done", "Job", "ModelOptions", "find_corpus", "open_output", "run_job"]
