"""Methods of ``retrieveall benchmark`` as peers: a linear-chain CRF and spaCy from scratch, each of one language.

They are trained on the corpora of the model ``base``, its running text and PAN-X, as raw text, and on nothing that
they are measured on. A trained method answers in a process of its own, as the programs in ``peer_programs`` do:

    python -m recipes.measure.trained crf fr FOLDER
    python -m recipes.measure.trained spacy fr FOLDER --environment VENVS/spacy
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from recipes.base.corpora import Corpora
from recipes.base.settings import CorpusSettings
from recipes.measure.peer_programs.peer_protocol import answer, peak_memory
from recipes.measure.running import LABELS
from recipes.measure.threads import use_one_thread
from recipes.raw_text import raw_text
from recipes.steps import Step, build
from retrieveall.benchmark.corpora import Corpus
from retrieveall.benchmark.methods import Job, check_installed, make_runner
from retrieveall.benchmark.peers import PEERS as ENVIRONMENTS
from retrieveall.benchmark.peers import install, python_of
from retrieveall.benchmark.settings import CrfMethod, SpacyMethod
from retrieveall.config import LabelConfig
from retrieveall.errors import RetrieveAllError
from retrieveall.storage import write_atomic
from retrieveall.types import Sentence

__all__ = ["Kind", "TrainedPeer", "Training", "trained_peers"]

Kind = Literal["crf", "spacy"]
LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
BATCH = 256
SEED = 13
NOTE = "trained.json"
"""Of a model folder: what it was trained on."""


class TimedSpacy(SpacyMethod):
    """spaCy trained for so many minutes of processor time, the best epoch on a share of the sentences kept."""

    epochs: int = 100
    minutes: float
    held_out: float = 0.05


@dataclass(frozen=True)
class Training:
    """What trained peers need to be trained.

    ``models``: folder of what is trained, where it is found again. ``sentences`` of each corpus at most, 0 for all.
    ``minutes`` of processor time that spaCy trains.
    """

    ner: Path
    panx: Path
    models: Path
    sentences: int
    minutes: float


@dataclass(frozen=True)
class TrainedPeer:
    """A method of the benchmark on one language; its labels are those of the corpora."""

    language: str
    kind: Kind

    @property
    def labels(self) -> Mapping[str, str]:
        return {label: label for label in LABELS}

    def environment(self, venvs: Path) -> Path | None:
        """The venv of the library; None if it is a package beside this project."""
        return venvs.absolute() / self.kind if self.kind in ENVIRONMENTS else None

    def install(self, venvs: Path) -> None:
        """Make the venv of the library, or check that its package is here.

        Raises:
            RetrieveAllError: Python or pip failed, or a package is missing.
        """
        if self.environment(venvs) is not None:
            install(self.kind, venvs)
        else:
            check_installed([_method(self.kind, None)])

    def train(self, venvs: Path, training: Training) -> Path:
        """The folder of the trained model: there already, or trained now. A training that was killed begins anew.

        Raises:
            RetrieveAllError: no corpora, or the training failed.
        """
        self.check(venvs)
        method = _method(self.kind, self.environment(venvs), training.minutes)
        settings = method.model_dump(mode="json", exclude={"environment"})
        data = Corpora(training.panx, training.ner / "train", (self.language,))
        step = Step(
            f"{self.kind}-{self.language}",
            partial(_train, method=method),  # no argument of the step: where the venv is does not change its key
            {"settings": settings, "language": self.language, "sentences": training.sentences, "data": data},
        )
        return build(step, training.models)

    def check(self, venvs: Path) -> None:
        """Check that the library is here.

        Raises:
            RetrieveAllError: it is not.
        """
        environment = self.environment(venvs)
        if environment is None:
            check_installed([_method(self.kind, None)])
        elif not python_of(environment).exists():
            raise RetrieveAllError(f"expected an environment at {environment}, found none; run with --install first")

    def command(self, venvs: Path, folder: Path) -> list[str]:
        """What answers texts with the model in ``folder``."""
        environment = self.environment(venvs)
        where = [] if environment is None else ["--environment", str(environment)]
        return [sys.executable, "-m", "recipes.measure.trained", self.kind, self.language, str(folder), *where]


def trained_peers() -> dict[str, TrainedPeer]:
    """A peer for each method and language."""
    names: dict[Kind, str] = {"crf": "crf", "spacy": "spacy-trained"}
    return {f"{name}-{each}": TrainedPeer(each, kind) for kind, name in names.items() for each in LANGUAGES}


def _method(kind: Kind, environment: Path | None, minutes: float = 0) -> CrfMethod | TimedSpacy:
    if kind == "crf":
        return CrfMethod(name=kind, kind=kind)
    assert environment is not None
    return TimedSpacy(name=kind, kind=kind, environment=environment, minutes=minutes)


def _job(method: CrfMethod | TimedSpacy, language: str, folder: Path, train: list[Sentence]) -> Job:
    corpora = {language: Corpus(language, train, [], [])}
    labels = tuple(LabelConfig(name=label) for label in LABELS)
    return Job(method, corpora, labels, SEED, folder, particles=language == "ko")


def _train(
    folder: Path,
    *,
    method: CrfMethod | TimedSpacy,
    settings: Mapping[str, Any],
    language: str,
    sentences: int,
    data: Corpora,
) -> None:
    """``settings`` are those of the method; they are an argument for the step's key."""
    for left in folder.iterdir():  # by a training that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    train = _sentences(data, language, sentences)
    runner = make_runner(_job(method, language, folder, train))
    started = _processor_seconds(ended=True)
    runner.fit()
    note = {
        "sentences": dict(sorted(Counter(each.id.rpartition(":")[0] for each in train if each.id).items())),
        "characters": sum(len(each.text) for each in train),
        "processor_seconds": round(_processor_seconds(ended=True) - started, 1),
        "settings": {key: value for key, value in settings.items() if value is not None and key != "name"},
        "bytes": runner.trained_bytes(),
        **getattr(runner, "said", {}),
    }
    write_atomic(folder / NOTE, json.dumps(note, indent=1).encode() + b"\n")


def _sentences(data: Corpora, language: str, most: int) -> list[Sentence]:
    """Train of all corpora of a language as raw text; ``most`` sentences of each, 0 for all."""
    most = most or sys.maxsize
    settings = CorpusSettings(panx={"others": most}, running=most, of={}, validation=1)
    panx, running = data.train(language, settings, random.Random(f"{SEED} {language}"))
    return [raw_text(each).sentence for each in [*panx, *running]]


def _processor_seconds(*, ended: bool = False) -> float:
    """Of this process and the ones that it started: those that work now, or those that have ended."""
    if ended:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return time.process_time() + sum(map(_seconds_of, own))


def _seconds_of(process: str) -> float:
    # After the name in brackets, which may have spaces, user and system time are the 12th and 13th field.
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(kind: Kind, language: str, folder: Path, environment: Path | None) -> None:
    """Answer the texts on standard input."""
    runner = make_runner(_job(_method(kind, environment), language, folder, []))
    runner.open()

    def find(texts: list[str]) -> Iterator[list[tuple[int, int, str]]]:
        for first in range(0, len(texts), BATCH):
            for found in runner.predict(language, texts[first : first + BATCH]):
                yield [(each.start, each.end, each.label) for each in found.entities]

    pinned = ENVIRONMENTS["spacy"][0].partition("==")[2]
    named = f"python-crfsuite {version('python-crfsuite')}" if kind == "crf" else f"spaCy {pinned}"
    memory: Callable[[], float] = lambda: peak_memory() + runner.memory_mb  # noqa: E731
    try:
        answer(find, named, _processor_seconds, memory)
    finally:
        runner.close()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure.trained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=get_args(Kind))
    parser.add_argument("language")
    parser.add_argument("folder", type=Path, help="of the trained model")
    parser.add_argument("--environment", type=Path, help="venv of the library, if it has one")
    args = parser.parse_args(arguments)
    use_one_thread()
    try:
        run(args.kind, args.language, args.folder, args.environment)
    except (RetrieveAllError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
