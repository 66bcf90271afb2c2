"""RetrieveAll: window -> retrieve -> route -> prompt -> decode.

``predict`` calls the stages in order, piece by piece for long texts; training, evaluation, calibration and planning
call the same stages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrieveall.arguments import (
    check_count,
    check_language,
    check_text,
    check_threshold,
    checked_path,
    checked_texts,
    languages_per_text,
    listed,
    listed_levels,
    wanted_labels,
)
from retrieveall.batched import batched
from retrieveall.call_lock import CallLock
from retrieveall.config import ModelConfig
from retrieveall.decoders import Reading, make_decoder
from retrieveall.decoders.calibration import UNCALIBRATED, Calibration, calibrate
from retrieveall.engines import EngineName, Failure, open_engine
from retrieveall.errors import ConfigError, EngineError, InputError
from retrieveall.model_folder import ModelFolder
from retrieveall.stages import (
    Parts,
    Piece,
    PiecePrediction,
    Stages,
    Window,
    cut_pieces,
    group_pieces,
    merge_knowledge,
    merge_routes,
    sum_faults,
)
from retrieveall.thresholds import select
from retrieveall.types import LEVELS, NO_LETTERS, Entity, Knowledge, Level, Prediction, Route

if TYPE_CHECKING:
    from retrieveall.engines import Engine
    from retrieveall.engines.remote.settings import ServerSettings
    from retrieveall.knowledge import KnowledgeBase
    from retrieveall.prompts import Prompt

__all__ = ["RetrieveAll"]


class _Run(NamedTuple):
    """Options of a call of ``predict``; ``languages``: one per text, None where it is routed."""

    languages: Sequence[str | None]
    levels: Collection[Level]
    keep_prompts: bool


class RetrieveAll:
    """A model: backbone, adapters and knowledge, ready to predict.

    Open a model with ``from_pretrained``. Thread-safe; concurrent calls are serialised.

    Examples:
        >>> model = RetrieveAll.from_pretrained("base")
        >>> model.predict(["Ada Lovelace was born in London."])[0].entities
    """

    def __init__(self, folder: ModelFolder, engine: Engine, options: Mapping[str, Any] | None = None) -> None:
        """Use ``from_pretrained`` instead; ``options`` are its arguments, needed to pickle the model."""
        self._options = dict(options or {})
        self.engine = engine
        self._lock = CallLock(engine.unforkable)
        self._use(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by path: the copy opens the same folder with the same options.

        Raises:
            InputError: the model was not opened by ``from_pretrained``.
        """
        if not self._options:
            raise InputError("expected a model opened by from_pretrained to pickle or copy, got one made of parts")
        return _reopen, (self._options,)

    def _use(self, folder: ModelFolder, knowledge: KnowledgeBase | None = None) -> None:
        """Load the current settings, languages and knowledge of the folder."""
        folder = _with_grammar(folder, self._options.get("constrained"))
        self.folder = folder
        self.knowledge = knowledge or folder.knowledge()
        self.config: ModelConfig = folder.config
        codec = self.engine.codec
        self._languages = folder.languages()
        self._calibrations: dict[str, Calibration] = {}
        self.decoder = make_decoder(self.config, codec)
        self.stages = Stages(
            self.config,
            self.knowledge,
            codec,
            languages=self._languages,
            frame=codec.chat_frame() if self.config.prompt.chat else None,
        )

    # -- opening and saving ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "base",
        *,
        revision: str | None = None,
        device: str | None = None,
        verify: bool = True,
        engine: EngineName | None = None,
        server: str | ServerSettings | None = None,
        constrained: bool | None = None,
        allow_no_adapters: bool = False,
    ) -> RetrieveAll:
        """Open a model.

        Args:
            name: ``"base"`` for the model in the package, a folder, or a hub id such as ``"organisation/model"``.
            revision: branch, tag or commit of a hub id.
            device: torch device; None: the GPU if there is one, else the CPU.
            verify: check every file against the checksums of the manifest (0.1 s for the mini model); otherwise
                only sizes are checked.
            engine: ``"transformers"`` runs the model in this process, ``"vllm"`` likewise on a GPU, ``"openai"`` on a
                server. None: ``"openai"`` if ``server`` is given, else ``"transformers"``.
            server: the URL of a server with the OpenAI completions API, or its full settings.
            constrained: for a generating model; False disables the grammar, for comparison, and
                ``Prediction.faults`` then counts the errors in its answers. None: as in the model's settings.
            allow_no_adapters: also open a model without a single adapter, whose backbone runs alone: one whose
                training was stopped, or whose languages were all removed.

        Raises:
            InputError: ``name`` is neither a string nor a path; an unknown engine or one that conflicts with the
                other options; ``constrained`` for a tagging model.
            ModelFolderError: not found, or a missing, truncated or modified file; no adapter.
        """
        folder = ModelFolder.open(name, revision=revision, verify=verify)
        if not allow_no_adapters:
            folder.check_adapters()
        config = _with_grammar(folder, constrained).config
        opened = open_engine(config, folder.path, engine=engine, server=server, device=device)
        options = {"name": str(folder.path), "device": device, "engine": engine, "constrained": constrained}
        return cls(folder, opened, options | {"server": _without_key(server)})

    def save_pretrained(self, path: str | Path) -> None:
        """Copy the model's files to ``path``, a new or empty folder.

        Raises:
            InputError: ``path`` is no path.
            ModelFolderError: ``path`` is not empty or within the model's folder, or the disk is full.
        """
        self.folder.copy_to(checked_path(path, "the new folder"))

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the model folder to the Hugging Face hub and return its URL."""
        return self.folder.push(repo_id, private=private, token=token)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with an adapter."""
        return self._languages

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.label_names

    # -- predicting -----------------------------------------------------------------------------------------------

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        language: str | Sequence[str | None] | None = None,
        labels: str | Sequence[str] | None = None,
        threshold: float | None = None,
        levels: Collection[Level] = LEVELS,
        keep_prompts: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """The entities of each text, in order.

        About 100,000 characters are worked on at a time, so that memory does not grow with the length of a text. Of a
        longer text, the 1,000 nearest examples and the first 10,000 known mentions are returned as its knowledge.

        Args:
            language: use this language's adapter for all texts, or one language (or None) per text; None routes by
                retrieval.
            labels: return only entities with this label, or these labels.
            threshold: return only entities with at least this probability, 0 to 1; None for the model's own
                thresholds, ``config.threshold`` and ``config.sentence_threshold``.
            levels: the levels that the prompt shows, for comparison. Routing uses all that was retrieved.
            keep_prompts: return the full prompts, too.
            progress: called with the number of characters that are done, as often as some are.

        Raises:
            InputError: not a text, a text that is too long, an unknown label or level, a threshold outside 0 to 1.
            LanguageError: a language that the model does not have.
            EngineError: the engine failed. If only some texts failed, it is raised after the others are done:
                ``failures`` maps text numbers to reasons, and ``results`` holds the predictions, None for the texts
                that failed.
        """
        texts = list(listed(texts))
        languages = languages_per_text(language, len(texts), self.languages)
        wanted = wanted_labels(labels, self.labels)
        check_threshold(threshold)
        levels = listed_levels(levels)
        if progress is not None and not callable(progress):
            raise InputError(f"expected progress as a function of a number, got {type(progress).__name__}")
        for number, text in enumerate(texts):
            check_text(text, number)  # before anything is computed
        with self._lock:
            run = _Run(languages, levels, keep_prompts)
            predictions = self._in_pieces(texts, run, progress)
        failures = {i: each.reason for i, each in enumerate(predictions) if isinstance(each, Failure)}
        results = [
            None if isinstance(each, Failure) else select(each, wanted, threshold, self.config) for each in predictions
        ]
        if failures:
            raise EngineError.of_items(failures, results, "text")
        return [each for each in results if each is not None]

    def stream(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = 256,
        language: str | None = None,
        labels: str | Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Iterator[Prediction]:
        """Stream predictions in order; only ``batch_size`` texts are in memory at once.

        Raises:
            InputError: as ``predict``; for an invalid text after the predictions of those before it, for anything
                else at once.
            EngineError: as ``predict``, of a batch; its ``failures`` count from the first text of the stream.
        """
        check_count(batch_size, "batch_size")
        if not (language is None or isinstance(language, str)):
            raise InputError(f"expected one language for all texts of a stream, got {type(language).__name__}")
        check_language(language, self.languages)
        check_threshold(threshold)
        wanted = wanted_labels(labels, self.labels)
        batches = batched(checked_texts(listed(texts)), batch_size)

        def predictions() -> Iterator[Prediction]:
            done = 0
            for batch in batches:
                try:
                    found = self.predict(batch, language=language, labels=list(wanted), threshold=threshold)
                except EngineError as error:
                    raise error.in_input([f"text {done + i}" for i in range(len(batch))], done) from None
                done += len(batch)
                yield from found

        return predictions()

    def reload(self, *, knowledge: KnowledgeBase | None = None) -> None:
        """Load changes made to the folder since it was opened: settings, added and removed languages.

        Args:
            knowledge: that of the folder, where the caller has it in memory (``KnowledgeBase.with_languages``); it is
                not read again, and checksums are not compared.

        Raises:
            ConfigError: the backbone settings changed; open the model again.
        """
        folder = ModelFolder.open(self.folder.path, verify=knowledge is None)
        if folder.config.backbone != self.config.backbone:
            raise ConfigError(f"the backbone of {folder.path} changed; open the model again with from_pretrained")
        with self._lock:
            self.engine.refresh()
            self._use(folder, knowledge)

    # -- steps of predict -----------------------------------------------------------------------------------------

    def _in_pieces(
        self, texts: Sequence[str], run: _Run, progress: Callable[[int], None] | None
    ) -> list[Prediction | Failure]:
        """Predict long texts piece by piece; a text fails if one of its pieces does."""
        parts = [Parts(text) for text in texts]
        failures: dict[int, Failure] = {}
        for group in group_pieces(cut_pieces(texts)):
            for piece, found in zip(group, self._pieces(group, run), strict=True):
                if isinstance(found, Failure):
                    failures.setdefault(piece.document, found)
                else:
                    parts[piece.document].add(piece, found)
            if progress is not None:
                progress(sum(len(piece.text) for piece in group))
        return [failures.get(number) or part.whole() for number, part in enumerate(parts)]

    def _pieces(self, pieces: Sequence[Piece], run: _Run) -> list[PiecePrediction | Failure]:
        """The five stages."""
        texts = [piece.text for piece in pieces]
        windows = self.stages.window(texts)
        knowledge = self.stages.retrieve(windows)
        routes = self.stages.route(windows, knowledge, [run.languages[piece.document] for piece in pieces])
        prompts = self.stages.prompt(windows, [found.only(run.levels) for found in knowledge], routes)
        readings = self.decoder.decode(self.engine, windows, prompts, routes)
        shown = self._rendered(windows, prompts) if run.keep_prompts else None
        return self._predictions(texts, windows, knowledge, routes, readings, shown)

    def _rendered(self, windows: Sequence[Window], prompts: Sequence[Prompt]) -> list[str]:
        repeated = self.config.decoder.copies == 2
        pairs = zip(windows, prompts, strict=True)
        return [prompt.render(window.text, repeated=repeated) for window, prompt in pairs]

    def _predictions(
        self,
        texts: Sequence[str],
        windows: Sequence[Window],
        knowledge: Sequence[Knowledge],
        routes: Sequence[Route],
        readings: Sequence[Reading | Failure],
        shown: Sequence[str] | None,
    ) -> list[PiecePrediction | Failure]:
        """Merge the windows of each text; a text fails if one of its windows does."""
        own: list[list[int]] = [[] for _ in texts]
        for number, window in enumerate(windows):
            own[window.document].append(number)
        results: list[PiecePrediction | Failure] = []
        for text, numbers in zip(texts, own, strict=True):
            failed = [reading for i in numbers if isinstance(reading := readings[i], Failure)]
            if failed:
                results.append(failed[0])
                continue
            mine = [windows[i] for i in numbers]
            reasons = [routes[i].reason for i in numbers]
            read = [(windows[i], routes[i], reading) for i in numbers if isinstance(reading := readings[i], Reading)]
            prediction = Prediction(
                text,
                tuple(self._entities(text, read)),
                merge_routes(mine, [routes[i] for i in numbers]),
                merge_knowledge(mine, [knowledge[i] for i in numbers]),
                sum_faults([reading.faults for _, _, reading in read if reading.faults is not None]),
                tuple(shown[i] for i in numbers) if shown is not None else (),
                len(reasons) - reasons.count(NO_LETTERS),
                reasons.count("unknown"),
            )
            results.append(PiecePrediction(prediction, sum(window.kept_words for window in mine)))
        return results

    def _entities(self, text: str, read: Iterable[tuple[Window, Route, Reading]]) -> Iterator[Entity]:
        """The entities of a text, by position, without overlap; each window is calibrated by its own route."""
        free_from = 0
        for window, route, reading in read:
            calibration = self._calibration(route)
            for start, end, label, probability in reading.spans:
                words = window.count_words(start, end)
                score = calibrate(probability, words, len(window.words) - words, calibration)
                first, last = window.source.span(start, end)
                if first >= free_from:
                    free_from = last
                    yield Entity(first, last, label, text[first:last], score)

    def _calibration(self, route: Route) -> Calibration:
        """The mean of the adapters' calibrations, with the weights of the route."""
        if not route.adapters:
            return UNCALIBRATED
        for language in route.adapters:
            if language not in self._calibrations:
                self._calibrations[language] = self.folder.calibration(language)
        weighted = [[weight * x for x in self._calibrations[name]] for name, weight in route.adapters.items()]
        return Calibration(*map(sum, zip(*weighted, strict=True)))


def _reopen(options: Mapping[str, Any]) -> RetrieveAll:
    # Its last language may have been removed since it was opened.
    return RetrieveAll.from_pretrained(verify=False, allow_no_adapters=True, **options)


def _without_key(server: str | ServerSettings | None) -> str | ServerSettings | None:
    """Keep the API key out of pickles: another process reads it from its own environment."""
    return server if server is None or isinstance(server, str) else replace(server, api_key=None)


def _with_grammar(folder: ModelFolder, constrained: bool | None) -> ModelFolder:
    """The model with or without the answer grammar; None keeps its settings. Files are not changed."""
    if constrained is None:
        return folder
    decoder = folder.config.decoder
    if "constrained" not in type(decoder).model_fields:
        raise InputError("expected a generating model for 'constrained', this one is a tagging model; leave it out")
    decoder = decoder.model_copy(update={"constrained": constrained})
    return replace(folder, config=folder.config.model_copy(update={"decoder": decoder}))
