"""The methods that a benchmark can run, each loaded when it is needed."""

from __future__ import annotations

from importlib import import_module

from retrieveall.benchmark.methods.base import Found, Job, Runner

__all__ = ["Found", "Job", "Runner", "make_runner"]

_RUNNERS = {
    "retrieveall": "retrieveall_runner:RetrieveAllRunner",
    "token_classification": "classifier:ClassifierRunner",
    "unmasked_lm": "classifier:ClassifierRunner",
    "promptner": "promptner:PromptNerRunner",
    "crf": "crf:CrfRunner",
    "gliner": "peer:PeerRunner",
    "spacy": "peer:PeerRunner",
}


def make_runner(job: Job) -> Runner:
    """The runner of a job's method.

    Raises:
        MissingExtraError: a library that the method needs is not installed.
    """
    module, _, name = _RUNNERS[job.method.kind].partition(":")
    runner: Runner = getattr(import_module(f"{__name__}.{module}"), name)(job)
    return runner
