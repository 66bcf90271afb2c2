"""A library in an environment of its own, trained and run by one of ``peer_programs`` in a subprocess."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieveall.benchmark.methods.base import Found, Job, folder_bytes, to_entities
from retrieveall.benchmark.peers import PROGRAMS, clean_environment, python_of
from retrieveall.data import segment, to_word_spans
from retrieveall.errors import ConfigError, RetrieveAllError
from retrieveall.types import Entity, Word

__all__ = ["PeerRunner"]

_PROGRAM = "spacy_ner.py"


class PeerRunner:
    """spaCy, a model for each language; it gets the words of this project, so that all methods tag the same ones."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._python = python_of(job.method.environment)
        if not self._python.exists():
            folder = job.method.environment
            raise ConfigError(
                f"{job.method.name}: expected an environment at {folder}, found none; "
                f"run: python -m retrieveall.benchmark.peers {folder.parent} --only {job.method.kind}"
            )
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.memory_mb = 0.0
        """Peak memory of the other process."""

    def fit(self) -> None:
        for language, corpus in self._job.corpora.items():
            lines = [
                json.dumps(_given(segment(each.text), each.entities)) for each in corpus.train if each.text.strip()
            ]
            source = self._job.folder / f"{language}.jsonl"
            source.write_text("\n".join(lines), encoding="utf-8")
            settings = (str(self._job.method.epochs), str(self._job.seed))
            self._call("train", str(source), str(self._job.folder / language), *settings)
            source.unlink()

    def open(self) -> None:
        for language in self._job.corpora:
            self._processes[language] = subprocess.Popen(
                self._command("predict", str(self._job.folder / language)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=clean_environment(),
            )

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        sentences = [segment(text) for text in texts]
        process = self._processes[language]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([_given(words) for words in sentences]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RetrieveAllError(f"{self._job.method.name}: expected an answer, the other process ended")
        found: dict[str, Any] = json.loads(answer)
        self.memory_mb = max(self.memory_mb, found["memory_mb"])
        return [
            Found(to_entities(text, words, [(first, last, label) for first, last, label in spans]))
            for text, words, spans in zip(texts, sentences, found["spans"], strict=True)
        ]

    def close(self) -> None:
        """End the other processes."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def trained_bytes(self) -> int:
        return sum(folder_bytes(self._job.folder / language) for language in self._job.corpora)

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._python), str(Path(PROGRAMS / _PROGRAM)), *arguments]

    def _call(self, *arguments: str) -> None:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, env=clean_environment())
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RetrieveAllError(f"{self._job.method.name}: training failed: {last[:300]}")


def _given(words: Sequence[Word], entities: Sequence[Entity] = ()) -> dict[str, Any]:
    spaces = [each.space_before for each in words[1:]] + [False]
    return {"words": [word.text for word in words], "spaces": spaces, "spans": to_word_spans(words, entities)}
