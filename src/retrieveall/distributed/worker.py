"""A worker: holds the model and turns blocks of a corpus into files of results. Knows nothing of Ray.

A block is predicted by whatever worker it comes to, perhaps a second time after a worker was lost. Its results appear
under their name when they are complete, so every row has exactly one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from retrieveall.data.counts import counts_of
from retrieveall.data.documents import Document, batches
from retrieveall.data.jsonl import json_line
from retrieveall.data.plain_values import PlainValues
from retrieveall.distributed.corpus import Block
from retrieveall.distributed.job import Done, Job, ModelOptions, OpenModel, Predictor
from retrieveall.distributed.output import Output
from retrieveall.distributed.place import Place
from retrieveall.errors import EngineError, ModelFolderError, RetrieveAllError
from retrieveall.threads import use_threads

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.model_folder import ModelFolder

__all__ = ["ROW", "Cutter", "Extractor", "fingerprint", "open_model"]

ROW = "row_id"
"""The field of a result that says which row it is of: ``file:number``, counted from 1."""


class Cutter:
    """Cuts files into blocks, on any machine: the ends of the lines are only found by reading."""

    def __init__(self, job: Job) -> None:
        self._corpus = job.corpus

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, list[str]]]:
        for index in batch["file"]:
            number = 0
            try:
                for block in self._corpus.cut(int(index)):
                    number = block.number + 1
                    yield {"block": [block.to_json()]}
            except RetrieveAllError as error:
                yield {"block": [Block(int(index), number, fault=str(error)).to_json()]}


class Extractor:
    """Predicts blocks. The model is opened with the first block that is not finished.

    Args:
        opener: opens the model in another way, for tests and measurements.
        threads: of the numerical libraries.
    """

    def __init__(self, job: Job, opener: OpenModel | None = None, threads: int | None = None) -> None:
        self._job = job
        self._open = opener or open_model
        self._output = Output(Place(job.output))
        self._model: Predictor | None = None
        use_threads(threads)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """A record for each block: its counts, or the error that stops the run."""
        records = [self._record(Block.from_json(str(block))) for block in batch["block"]]
        return {key: [record[key] for record in records] for key in records[0]}

    def _record(self, block: Block) -> dict[str, Any]:
        found: dict[str, Any] = {"file": block.file, "number": block.number, "last": block.last}
        found |= {"bytes": block.stop - block.start, "before": False, "error": "", "kind": ""}
        found |= Done().counts()
        try:
            if block.fault:
                return found | {"error": block.fault, "kind": "DataError"}
            if (counts := self._output.finished(block)) is not None:
                return found | counts | {"before": True}
            return found | self._predict(block)
        except RetrieveAllError as error:  # as text, since not every error of a library can be sent
            return found | {"error": str(error), "kind": type(error).__name__}

    def _predict(self, block: Block) -> dict[str, int]:
        self._output.begin(block, self._job.corpus.where(self._job.corpus.files[block.file]))
        if self._model is None:
            self._model = self._open(self._job.model)
        done = Done()
        with self._output.writing(block) as stream:
            self._write(stream, block, self._model, done)
        self._output.finish(block, done.counts())
        return done.counts()

    def _write(self, stream: IO[bytes], block: Block, model: Predictor, done: Done) -> None:
        job = self._job
        file = job.corpus.files[block.file]
        numbered = (
            Document(document.text, {**document.fields, ROW: f"{file.name}:{number}"}, document.size)
            for number, document in job.corpus.read(block)
        )
        values = PlainValues()
        for batch in batches(numbered, job.batch_size):
            texts = [document.text for document in batch]
            try:
                predictions = model.predict(texts, language=job.language, labels=job.labels, threshold=job.threshold)
            except EngineError as error:
                raise error.in_input([str(document.fields[ROW]) for document in batch]) from None
            for document, prediction in zip(batch, predictions, strict=True):
                record = {**document.fields, **prediction.to_dict(knowledge=job.knowledge)}
                stream.write(json_line(record, values).encode())
            done.add(counts_of(predictions))
        done.add(values.state())


def fingerprint(folder: ModelFolder) -> str:
    """A hash of the checksums of a model's files."""
    import hashlib

    from retrieveall.storage import Manifest

    files = sorted((name, record.sha256) for name, record in Manifest.load(folder.path).files.items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def open_model(options: ModelOptions) -> Predictor:
    """The model of a worker.

    Raises:
        ModelFolderError: not found, or another than where the run was started.
        MissingExtraError: the engine's library is not installed on this machine.
    """
    from retrieveall import RetrieveAll

    model: RetrieveAll
    if options.engine == "vllm" and options.gpus > 1:
        model = _open_vllm(options)
    else:
        model = RetrieveAll.from_pretrained(
            options.name,
            engine=options.engine,  # type: ignore[arg-type]  # checked where the engine is opened
            server=options.server,
            device=_device(options),
            verify=options.verify,
        )
    if options.fingerprint is not None and fingerprint(model.folder) != options.fingerprint:
        raise ModelFolderError(
            f"{model.folder.path}: expected the model of the machine that started the run, got other files; "
            "install the same model on every machine"
        )
    return model


def _device(options: ModelOptions) -> str | None:
    """A worker that asked for no GPU stays on the CPU, or all workers of a machine would take its first GPU."""
    in_process = options.engine in (None, "transformers") and options.server is None
    return "cpu" if options.device is None and in_process and not options.gpus else options.device


def _open_vllm(options: ModelOptions) -> RetrieveAll:
    """vLLM with the backbone divided among the worker's GPUs, by processes of its own."""
    from retrieveall import RetrieveAll
    from retrieveall.engines.vllm import VllmEngine, VllmSettings
    from retrieveall.model_folder import ModelFolder

    folder = ModelFolder.open(options.name, verify=options.verify)
    parallel = {"tensor_parallel_size": int(options.gpus), "distributed_executor_backend": "mp"}
    return RetrieveAll(folder, VllmEngine(folder.config, folder.path, VllmSettings(options=parallel)))
