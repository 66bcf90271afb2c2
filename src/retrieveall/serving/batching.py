"""The queue between requests and the model: one worker thread owns the model and computes the texts of many together.

Knows nothing of HTTP. Requests take turns, text by text, so that a long list does not hold up a short one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

from retrieveall.engines import Failure
from retrieveall.errors import EngineError
from retrieveall.serving.settings import ServiceSettings
from retrieveall.types import LEVELS, Level, Prediction

__all__ = ["Answer", "Batch", "Batcher", "Closing", "Job", "Model", "Overloaded", "Task"]

T = TypeVar("T")
Answer: TypeAlias = Prediction | Failure | Exception
"""Of one text. A failure is the engine's; an exception, what the model raised for this text."""
_SHORTEST_RETRY, _LONGEST_RETRY = 1, 60


class Model(Protocol):
    """What the worker asks of a model; ``RetrieveAll`` has it."""

    @property
    def languages(self) -> tuple[str, ...]: ...

    def predict(
        self,
        texts: Sequence[str],
        *,
        language: Sequence[str | None],
        threshold: float | None = None,
        levels: Collection[Level] = LEVELS,
        keep_prompts: bool = False,
    ) -> list[Prediction]: ...


class Overloaded(Exception):
    """The queue is full; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full, repeat in {retry_after} s")
        self.retry_after = retry_after


class Closing(Exception):
    """The service is shutting down."""


@dataclass(frozen=True, slots=True)
class Task:
    """One text and how to compute it."""

    text: str
    language: str | None = None
    levels: tuple[Level, ...] = LEVELS
    keep_prompts: bool = False


@dataclass(eq=False)
class Job:
    """The texts of one request. ``done`` gets their answers in order, or an error of the whole request."""

    tasks: Sequence[Task]
    done: Future[list[Answer]] = field(default_factory=Future)
    next: int = 0
    finished: int = 0
    cancelled: bool = False
    answers: list[Answer | None] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.tasks)

    def put(self, number: int, answer: Answer) -> None:
        self.answers[number] = answer
        self.finished += 1
        if self.finished == len(self.tasks) and not self.done.done():
            self.done.set_result([each for each in self.answers if each is not None])

    def fail(self, error: BaseException) -> None:
        self.cancelled = True
        if not self.done.done():
            self.done.set_exception(error)


Batch: TypeAlias = list[tuple[Job, int]]
"""Texts that are computed together: jobs and the numbers of their texts."""


class Batcher:
    """Queue and worker thread.

    Args:
        watch: called by the worker with each batch that was computed and the seconds it took.
    """

    def __init__(
        self,
        model: Model,
        settings: ServiceSettings,
        watch: Callable[[Sequence[Answer], float], None] | None = None,
    ) -> None:
        self.model = model
        self._settings = settings
        self._watch = watch or (lambda answers, seconds: None)
        self._jobs: deque[Job] = deque()
        self._open: set[Job] = set()
        self._commands: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._texts = self._characters = self._running = 0
        self._rate = 0.0
        self._closing = self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="retrieveall-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- called by requests ---------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return self._texts

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is computed."""
        with self._changed:
            return not (self._jobs or self._commands or self._running)

    def check(self) -> None:
        """Refuse early, before a request is read.

        Raises:
            Overloaded, Closing
        """
        with self._changed:
            self._check(1, 0)

    def submit(self, tasks: Sequence[Task]) -> Job:
        """Queue the texts of a request, all or none.

        Raises:
            Overloaded: they do not fit.
            Closing: the service is shutting down.
        """
        job = Job(tasks)
        if not tasks:
            job.done.set_result([])
            return job
        size = sum(len(task.text) for task in tasks)
        with self._changed:
            self._check(len(tasks), size)
            self._texts += len(tasks)
            self._characters += size
            self._jobs.append(job)
            self._open.add(job)
            self._changed.notify_all()
        job.done.add_done_callback(lambda _: self._open.discard(job))
        return job

    def cancel(self, job: Job) -> None:
        """Drop what is still queued of a request and give its places to others."""
        with self._changed:
            if not job.cancelled and job in self._jobs:
                self._jobs.remove(job)
                self._release(job)
            job.cancelled = True
            self._changed.notify_all()

    def between_batches(self, command: Callable[[], T]) -> Future[T]:
        """Run ``command`` on the worker thread, between two batches; before texts that wait.

        Raises:
            Closing: the service is shutting down.
        """
        done: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise Closing
            self._commands.append((command, done))  # type: ignore[arg-type]
            self._changed.notify_all()
        return done

    def close(self) -> None:
        """Take nothing new; what is queued is still computed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Fail every request that is not done, queued or running."""
        for job in list(self._open):
            job.fail(Closing())

    def stop(self, seconds: float = 5.0) -> None:
        """End the worker after the running batch, for which it waits so long; what is queued fails."""
        with self._changed:
            self._closing = self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=seconds)
        for job in list(self._jobs):
            job.fail(Closing())

    def _check(self, texts: int, characters: int) -> None:
        if self._closing:
            raise Closing
        free = self._settings.queue_texts - self._texts
        # A request that would not fit an empty queue is let in alone.
        if self._texts and (texts > free or self._characters + characters > self._settings.queue_characters):
            raise Overloaded(self._retry_after())

    def _retry_after(self) -> int:
        """The seconds after which half of the queue is computed."""
        expected = self._texts / 2 / self._rate if self._rate else _SHORTEST_RETRY
        return int(min(_LONGEST_RETRY, max(_SHORTEST_RETRY, expected)))

    def _release(self, job: Job) -> None:
        rest = job.tasks[job.next :]
        self._texts -= len(rest)
        self._characters -= sum(len(task.text) for task in rest)

    # -- the worker -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._commands or self._stopped)
                if self._stopped:
                    return
                command = self._commands.popleft() if self._commands else None
                batch = [] if command else self._collect()
                self._running = len(batch) + (command is not None)
            try:
                if command:
                    _execute(*command)
                else:
                    self._compute(batch)
            finally:
                del command
                with self._changed:
                    self._running = 0

    def _collect(self) -> Batch:
        """Wait for a full batch or until its first text has waited long enough; then take it."""
        until = self._jobs[0].arrived + self._settings.batch_seconds
        while (left := until - time.monotonic()) > 0 and self._texts < self._settings.batch_texts:
            if self._commands or self._closing or not self._changed.wait(left):
                break
        batch: Batch = []
        characters = 0
        while self._jobs and len(batch) < self._settings.batch_texts:
            job = self._jobs[0]
            size = len(job.tasks[job.next].text)
            if batch and characters + size > self._settings.batch_characters:
                break
            self._jobs.popleft()
            batch.append((job, job.next))
            job.next += 1
            characters += size
            if job.next < len(job.tasks):
                self._jobs.append(job)
        self._texts -= len(batch)
        self._characters -= characters
        return batch

    def _compute(self, batch: Batch) -> None:
        groups: dict[tuple[tuple[Level, ...], bool], Batch] = {}
        for job, number in batch:
            task = job.tasks[number]
            groups.setdefault((task.levels, task.keep_prompts), []).append((job, number))
        for group in groups.values():
            started = time.monotonic()
            answers = self._predict(group)
            seconds = time.monotonic() - started
            self._rate = 0.8 * self._rate + 0.2 * len(group) / max(seconds, 1e-6)
            self._watch(answers, seconds)

    def _predict(self, batch: Batch) -> list[Answer]:
        """Compute a batch and hand out its answers; a text that spoils the batch fails alone."""
        batch = [(job, number) for job, number in batch if not job.cancelled]
        answers: list[Answer]
        try:
            answers = self._ask(batch)
        except Exception as error:
            if len(batch) > 1:
                return [answer for each in batch for answer in self._predict([each])]
            answers = [error]
        for (job, number), answer in zip(batch, answers, strict=True):
            job.put(number, answer)
        return answers

    def _ask(self, batch: Batch) -> list[Answer]:
        if not batch:
            return []
        tasks = [job.tasks[number] for job, number in batch]
        try:
            found = self.model.predict(
                [task.text for task in tasks],
                language=[task.language for task in tasks],
                threshold=0.0,  # every request has its own
                levels=tasks[0].levels,
                keep_prompts=tasks[0].keep_prompts,
            )
        except EngineError as error:
            return _partial(error, len(batch))
        return list(found)


def _partial(error: EngineError, texts: int) -> list[Answer]:
    """What an engine computed before it failed; without any result, the same failure for all texts."""
    if len(error.results) != texts:
        return [Failure(str(error))] * texts
    return [Failure(error.failures[i]) if each is None else each for i, each in enumerate(error.results)]


def _execute(command: Callable[[], object], done: Future[object]) -> None:
    try:
        done.set_result(command())
    except Exception as error:
        done.set_exception(error)
