"""What the routes do: texts to the batcher and back, languages added and removed. Knows no headers and no keys."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic_core import to_json

from retrieveall.arguments import languages_per_text, wanted_labels
from retrieveall.config.faults import json_type
from retrieveall.engines import Failure
from retrieveall.errors import EngineError, InputError, RetrieveAllError
from retrieveall.serving.archive import unpack
from retrieveall.serving.batching import Answer, Batcher, Closing, Job, Overloaded, Task
from retrieveall.serving.changes import add_language, between, quiet, remove_language
from retrieveall.serving.logs import log_error
from retrieveall.serving.memory import give_back
from retrieveall.serving.metrics import Metrics
from retrieveall.serving.schema import (
    Changed,
    ExtractRequest,
    Label,
    Language,
    Languages,
    Limits,
    ModelInfo,
    Result,
    StreamResult,
    fields_of,
)
from retrieveall.serving.settings import ServiceSettings
from retrieveall.thresholds import select
from retrieveall.types import LEVELS, Level, Prediction

__all__ = ["ClientLeft", "EngineDown", "Service", "TimedOut", "TooMuch"]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_AHEAD = 4  # parts of a stream in the queue
_PART = 16  # texts
_PAUSE = 0.05
_PATIENCE = 5.0  # seconds for the running batch when the process ends


class TooMuch(InputError):
    """More texts, or a longer one, than a request may have."""


class EngineDown(EngineError):
    """The engine failed on a text."""


class TimedOut(Exception):
    """Not computed in time."""


class ClientLeft(Exception):
    """Nobody waits for the answer."""


class Service:
    """A model behind a queue."""

    def __init__(self, model: Any, settings: ServiceSettings, metrics: Metrics) -> None:
        self.model, self.settings, self.metrics = model, settings, metrics
        self.batcher = Batcher(model, settings, metrics.batch)
        self.closing = False
        self._patience = _PATIENCE
        self.active_requests: Callable[[], int] = lambda: 0
        self._changes = asyncio.Lock()
        self._languages = self._list_languages()
        metrics.gauge("queue_texts", "texts that wait", lambda: self.batcher.waiting)
        metrics.gauge("languages", "languages with an adapter", lambda: len(model.languages))
        metrics.gauge("open_requests", "requests that are being answered", lambda: self.active_requests())

    def start(self) -> None:
        self.batcher.start()

    def close(self) -> None:
        """Take no new requests; those that run are finished."""
        self.closing = True

    def give_up(self, *, at_once: bool = False) -> None:
        """Answer what still runs with 503; the lines that a stream lacks say so.

        Args:
            at_once: do not wait for the texts that are being computed when the process ends.
        """
        self.closing = True
        self._patience = 0.0 if at_once else self._patience
        self.batcher.close()  # or a stream would queue its next texts
        self.batcher.abandon()

    def stop(self) -> None:
        self.batcher.stop(self._patience)

    # -- texts ----------------------------------------------------------------------------------------------------

    async def extract(self, asked: ExtractRequest, receive: Receive) -> list[Result]:
        """The result of each text.

        Raises:
            TooMuch, InputError: what may not be asked.
            Overloaded, Closing, TimedOut: repeat later.
            ClientLeft: noticed by ``receive``; what waits is not computed.
            EngineDown: the engine failed.
        """
        for reason in self._refused(asked).values():
            raise TooMuch(reason)
        tasks = self._tasks(asked, asked.listed(), self.settings.texts)
        labels = self._labels(asked)
        job = self.batcher.submit(tasks)
        results = []
        for number, answer in enumerate(await self._finish(job, receive)):
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, Failure):
                raise EngineDown(f"the engine failed on text {number}: {answer.reason}")
            results.append(Result.of(self._chosen(answer, labels, asked), asked.explain))
        return results

    async def stream(self, asked: ExtractRequest) -> AsyncIterator[bytes]:
        """Lines of JSON, for many texts. Only a few parts of the list are queued at once.

        What is no text, or too long, is refused in its own line; the others are computed.

        Raises:
            TooMuch, InputError, Overloaded, Closing: before the first line.
        """
        refused = self._refused(asked)
        # In the place of a refused text there is an empty one, so that lines keep their numbers.
        texts = ["" if number in refused else text for number, text in enumerate(asked.listed())]
        tasks = self._tasks(asked, texts, self.settings.stream_texts)
        labels = self._labels(asked)
        first = self.batcher.submit(tasks[:_PART])
        return self._lines(tasks, first, labels, asked, refused)

    async def _lines(
        self,
        tasks: Sequence[Task],
        first: Job,
        labels: Collection[str],
        asked: ExtractRequest,
        refused: Mapping[int, str],
    ) -> AsyncIterator[bytes]:
        queued: deque[Job] = deque([first])
        start, done = _PART, 0
        try:
            while queued:
                while start < len(tasks) and len(queued) < _AHEAD:
                    try:
                        queued.append(self._submit(tasks[start : start + _PART]))
                    except Overloaded:
                        break
                    start += _PART
                answers = await self._answers(queued.popleft())
                for answer in answers:
                    if done in refused:
                        answer = Failure(refused[done])
                    chosen = self._chosen(answer, labels, asked) if isinstance(answer, Prediction) else answer
                    yield _line(done, chosen, explain=asked.explain)
                    done += 1
                while not queued and start < len(tasks):
                    try:
                        queued.append(self._submit(tasks[start : start + _PART]))
                    except Overloaded:
                        await asyncio.sleep(_PAUSE)
                        continue
                    start += _PART
        finally:
            for job in queued:
                self.batcher.cancel(job)

    def _submit(self, tasks: Sequence[Task]) -> Job:
        """The next part of a stream, queued; while shutting down, one that has failed.

        Raises:
            Overloaded: it does not fit.
        """
        try:
            return self.batcher.submit(tasks)
        except Closing as error:  # the response has begun: its lines say so
            job = Job(tasks)
            job.fail(error)
            return job

    async def _answers(self, job: Job) -> list[Answer]:
        """The answers of a part of a stream; one that is not done in time fails for each of its texts."""
        try:
            return await self._finish(job)
        except (TimedOut, Closing) as error:
            return [Failure(str(error) or "the server is shutting down")] * len(job.tasks)

    async def _finish(self, job: Job, receive: Receive | None = None) -> list[Answer]:
        waiting = quiet(asyncio.wrap_future(job.done))
        gone = asyncio.create_task(_hang_up(receive)) if receive is not None else None
        try:
            everything: list[asyncio.Future[Any]] = [waiting, *([gone] if gone is not None else [])]
            await asyncio.wait(everything, timeout=self.settings.seconds, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            if gone is not None:
                gone.cancel()
            if not waiting.done():
                self.batcher.cancel(job)
        if gone is not None and gone.done():
            self.metrics.cancelled()
            raise ClientLeft
        raise TimedOut(f"not done within {self.settings.seconds:g} s; send fewer texts, or repeat later")

    def _refused(self, asked: ExtractRequest) -> dict[int, str]:
        """What is no text, or too long, by its number, with the reason."""
        reasons = ((number, self._why_refused(text)) for number, text in enumerate(asked.listed()))
        return {
            number: f"expected {why[0]}, got {why[1]} as text {number} of the list (the first is 0); {why[2]}"
            for number, why in reasons
            if why is not None
        }

    def _why_refused(self, text: Any) -> tuple[str, str, str] | None:
        """What was expected, what came and what to do."""
        most = self.settings.characters
        if not isinstance(text, str):
            return "a string", json_type(text), "send the text alone"
        if len(text) > most:
            return f"texts of at most {most:,} characters", f"{len(text):,}", "split the text"
        return None

    def _tasks(self, asked: ExtractRequest, texts: Sequence[str], most: int) -> list[Task]:
        if len(texts) > most:
            raise TooMuch(f"expected at most {most:,} texts, got {len(texts):,}; send them in several requests")
        levels: tuple[Level, ...] = tuple(level for level in LEVELS if level in asked.levels)
        languages = languages_per_text(asked.language, len(texts), self.model.languages)
        pairs = zip(texts, languages, strict=True)
        return [Task(text, language, levels, asked.explain) for text, language in pairs]

    def _chosen(self, found: Prediction, labels: Collection[str], asked: ExtractRequest) -> Prediction:
        return select(found, labels, asked.threshold, self.model.config)

    def _labels(self, asked: ExtractRequest) -> Collection[str]:
        return wanted_labels(asked.labels, self.model.labels)

    # -- model ----------------------------------------------------------------------------------------------------

    def info(self) -> ModelInfo:
        from retrieveall import __version__

        config = self.model.config
        return ModelInfo(
            name=config.name,
            version=__version__,
            decoder=config.decoder.kind,
            labels=[Label(name=label.name, definition=label.definition) for label in config.labels],
            languages=list(self.model.languages),
            threshold=config.threshold,
            sentence_threshold=config.sentence_threshold,
            limits=Limits(**self.settings.model_dump(include=set(Limits.model_fields))),
        )

    def languages(self) -> Languages:
        return self._languages

    def _list_languages(self) -> Languages:
        """Counted at each change, not at each request: it reads tables."""
        adapters, knowledge = self.model.languages, self.model.knowledge
        known = set(knowledge.languages)
        return Languages(
            languages=[
                Language(
                    language=name,
                    adapter=name in adapters,
                    sentences=len(knowledge.sentences(name)) if name in known else 0,
                )
                for name in sorted({*adapters, *known})
            ]
        )

    async def add_language(self, language: str, body: AsyncIterator[bytes]) -> Changed:
        """Unpack and check an uploaded language, then add it between two batches.

        Raises:
            UnsafeFileError, ModelFolderError, LanguageError: what the upload may not be; the model is as it was.
        """
        folder = Path(tempfile.mkdtemp(prefix="retrieveall-upload-"))
        try:
            packed = folder / "archive"
            with packed.open("xb") as file:
                async for chunk in body:
                    file.write(chunk)
            files = folder / "files"
            await asyncio.to_thread(unpack, packed, files, language, self.settings.unpacked_bytes)
            async with self._changes:
                await add_language(self.batcher, self.model, language, files)
                return await self._changed(language)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def remove_language(self, language: str) -> Changed:
        """Remove a language between two batches.

        Raises:
            LanguageError: the model does not have it.
        """
        async with self._changes:
            await remove_language(self.batcher, self.model, language)
            return await self._changed(language)

    async def _changed(self, language: str) -> Changed:
        self._languages = await between(self.batcher, self._list_languages)
        await asyncio.to_thread(give_back)
        return Changed(language=language, languages=list(self.model.languages))


async def _hang_up(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _reason(answer: Failure | Exception) -> str:
    if isinstance(answer, Failure):
        return answer.reason
    if isinstance(answer, RetrieveAllError):
        return str(answer)
    log_error(answer)
    return "internal error; the server's log says where"


def _line(number: int, answer: Answer, *, explain: bool) -> bytes:
    if isinstance(answer, Prediction):
        fields = fields_of(answer, explain)
        line = StreamResult.model_construct(index=number, **fields)
    else:  # the response has begun: only its lines can still say what failed
        line = StreamResult(index=number, language=None, error=_reason(answer))
    return to_json(line.written()) + b"\n"
