"""A library in an environment of its own, trained and run by one of ``peer_programs`` in a subprocess."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from retrieveall.benchmark.methods.base import Found, Job, folder_bytes, to_entities
from retrieveall.benchmark.peers import PROGRAMS, clean_environment, python_of
from retrieveall.benchmark.settings import PeerMethod
from retrieveall.data import segment, to_word_spans
from retrieveall.errors import ConfigError, RetrieveAllError
from retrieveall.types import Entity, Word

__all__ = ["PeerRunner"]


class PeerRunner:
    """Another library; it gets the words of this project, so that all methods tag the same ones."""

    def __init__(self, job: Job) -> None:
        self._job, self._method = job, job.method
        assert isinstance(self._method, PeerMethod)
        self._python = python_of(self._method.environment)
        if not self._python.exists():
            folder = self._method.environment
            made = folder.parent / job.method.kind
            name = "" if made == folder else f", and set its environment to {made}"
            raise ConfigError(
                f"{job.method.name}: expected an environment at {folder}, found none; "
                f"run: python -m retrieveall.benchmark.peers {folder.parent} --only {job.method.kind}{name}"
            )
        self._model = job.folder / "model"
        self._process: subprocess.Popen[str] | None = None
        self.memory_mb = 0.0
        """Peak memory of the other process."""
        self.said: dict[str, Any] = {}
        """What the program said of its training."""

    def fit(self) -> None:
        source = self._job.folder / "sentences.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for corpus in self._job.corpora.values():
                for each in corpus.train:
                    if words := segment(each.text, particles=self._job.particles):
                        file.write(json.dumps(_given(words, each.entities)) + "\n")
        done = subprocess.run(
            self._command("train", str(source)), capture_output=True, text=True, env=clean_environment()
        )
        if done.returncode:
            raise self._failed("training", done.stderr)
        self.said = self._read(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "")
        source.unlink()

    def open(self) -> None:
        # Its messages go to the log of the cell, which an unread pipe would block.
        self._process = subprocess.Popen(
            self._command("predict"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=clean_environment(),
        )

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        sentences = [segment(text, particles=self._job.particles) for text in texts]
        found = self._read(self._ask(json.dumps([_given(words) for words in sentences])))
        return [
            Found(
                to_entities(
                    text,
                    words,
                    [(first, last, label) for first, last, label, *_ in spans],
                    [probability for *_, probability in spans] if any(len(span) == 4 for span in spans) else (),
                )
            )
            for text, words, spans in zip(texts, sentences, found["spans"], strict=True)
        ]

    def close(self) -> None:
        """End the other process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def trained_bytes(self) -> int:
        return folder_bytes(self._model)

    def _command(self, verb: str, *arguments: str) -> list[str]:
        job = self._job
        backbone = None if job.backbone is None else job.backbone.path
        options = {**self._method.options(), "seed": job.seed, "labels": job.label_names, "backbone": backbone}
        program = str(PROGRAMS / f"{self._method.kind}_ner.py")
        return [str(self._python), program, verb, *arguments, str(self._model), json.dumps(options)]

    def _ask(self, line: str) -> str:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except OSError:
            return ""
        return process.stdout.readline()

    def _read(self, answer: str) -> dict[str, Any]:
        """An answer of the program, whose peak memory is remembered."""
        try:
            found: dict[str, Any] = json.loads(answer)
            self.memory_mb = max(self.memory_mb, found["memory_mb"])
        except (ValueError, KeyError, TypeError):
            said = answer.strip()[:200] or "none; its process ended"
            raise RetrieveAllError(
                f"{self._method.name}: expected an answer of the other process, got {said}"
            ) from None
        return found

    def _failed(self, what: str, messages: str) -> RetrieveAllError:
        last = (messages.strip().splitlines() or ["no message"])[-1]
        return RetrieveAllError(f"{self._method.name}: {what} failed: {last[:300]}")


def _given(words: Sequence[Word], entities: Sequence[Entity] = ()) -> dict[str, Any]:
    spaces = [each.space_before for each in words[1:]] + [False]
    return {"words": [word.text for word in words], "spaces": spaces, "spans": to_word_spans(words, entities)}
