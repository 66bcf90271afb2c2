"""RetrieveAll: retrieve -> route -> prompt -> run -> decode.

The stages are methods of their own, and everything that predicts (command line, evaluation, service) calls them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from retrieveall.config import MAX_CHARACTERS, ModelConfig
from retrieveall.data import segment
from retrieveall.decoding import (
    UNCALIBRATED,
    Calibration,
    TagSet,
    Window,
    calibrate,
    cut_windows,
    decode_batch,
    merge_scores,
    merge_spans,
    to_entities,
)
from retrieveall.engines.base import GenerateRequest, TagRequest
from retrieveall.engines.opening import EngineName, FinishedEngine, open_engine
from retrieveall.errors import EngineError, InputError, LanguageError
from retrieveall.model_folder import ModelFolder
from retrieveall.parts import Part, merge_knowledge, merge_routes, words_of
from retrieveall.prompts import Prompt, PromptBuilder, load_template
from retrieveall.routing import Router
from retrieveall.types import AnswerFaults, Entity, Knowledge, Neighbour, Prediction, Route, Word

if TYPE_CHECKING:
    from retrieveall.engines.base import Engine
    from retrieveall.engines.remote_settings import ServerSettings
    from retrieveall.knowledge import KnowledgeBase

__all__ = ["RetrieveAll"]

_Runner: TypeAlias = "Engine | FinishedEngine"
_Decoded: TypeAlias = tuple[Sequence[Entity], AnswerFaults | None]
_NO_WORDS = np.zeros((0, 0))


class RetrieveAll:
    """A model: backbone, adapters and knowledge, ready to predict.

    Open one with :meth:`from_pretrained`. Safe to call from several threads; calls run one after the other.

    Example:
        >>> model = RetrieveAll.from_pretrained("mini")
        >>> model.predict(["Ada Lovelace was born in London."])[0].entities
    """

    def __init__(self, folder: ModelFolder, engine: Engine, knowledge: KnowledgeBase) -> None:
        self.folder = folder
        self.config: ModelConfig = folder.config
        self.engine = engine
        self.knowledge = knowledge
        self._languages = folder.languages()
        self._calibrations: dict[str, Calibration] = {}
        self._tags = TagSet(self.config.label_names)
        self._router = Router(self.config.routing)
        self._prompts = PromptBuilder(
            load_template(self.config.prompt.template),
            self.config.labels,
            self.config.prompt,
            engine.count,
            self.config.retrieval.min_similarity,
            engine.chat_frame() if self.config.prompt.chat else None,
        )
        self._room = self._prompts.room
        self._generates = self.config.decoder.kind == "generation"
        self._lock = threading.RLock()

    # -- opening and saving ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "mini",
        *,
        revision: str | None = None,
        device: str | None = None,
        verify: bool = True,
        engine: EngineName | None = None,
        server: str | ServerSettings | None = None,
        constrained: bool | None = None,
    ) -> RetrieveAll:
        """Open a model.

        Args:
            name: ``"mini"`` for the model in the package, a folder, or a hub id such as ``"organisation/model"``.
            revision: of a hub id; a commit pins it.
            device: as torch names it; the GPU where there is one if None.
            verify: compare every file with the checksums of the manifest (0.1 s for the mini model). Without it,
                only sizes are compared.
            engine: what runs the model: ``"transformers"`` in this process, ``"vllm"`` likewise on a GPU, or
                ``"openai"`` for a server. In this process if None, or at the server where one is given.
            server: the address of a server that speaks the completions protocol, or its whole settings.
            constrained: of a model that generates: False lets it write without the grammar, for comparison;
                ``Prediction.faults`` then says what is wrong with its answers. As the model's settings say if None.

        Raises:
            InputError: a name that is neither a string nor a path; an engine that does not exist or does not go with
                the other options; ``constrained`` for a model that tags.
            ModelFolderError: not found, or a missing, truncated or altered file.
        """
        folder = ModelFolder.open(name, revision=revision, verify=verify)
        if constrained is not None:
            folder = _with_grammar(folder, constrained)
        opened = open_engine(folder.config, folder.path, engine=engine, server=server, device=device)
        return cls(folder, opened, folder.knowledge())

    def save_pretrained(self, path: str | Path) -> None:
        """Write the model to ``path``, which must not exist yet or be empty; every file is copied as it is.

        Raises:
            ModelFolderError: ``path`` is not empty, or the disk is full.
        """
        self.folder.copy_to(Path(path))

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the model folder to the Hugging Face hub and return its address."""
        return self.folder.push(repo_id, private=private, token=token)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with an adapter."""
        return self._languages

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.label_names

    # -- the stages -----------------------------------------------------------------------------------------------

    def retrieve(self, texts: Sequence[str]) -> list[Knowledge]:
        """Stage 1: the nearest training sentences of each text, and the known mentions in it."""
        retrieval = self.config.retrieval
        k = max(retrieval.neighbours, self.config.prompt.context_examples)
        return self.knowledge.retrieve(
            texts, k, near_matches=retrieval.near_matches, partial_matches=retrieval.partial_matches
        )

    def route(self, neighbours: Sequence[Neighbour], language: str | None = None) -> Route:
        """Stage 2: the adapters, by the votes of the neighbours or as the caller fixed them."""
        return self._router.route(neighbours, self.languages, language=language)

    def build_prompt(self, text: str, knowledge: Knowledge, *, input_tokens: int = 0) -> Prompt:
        """Stage 3: the hierarchical prompt."""
        return self._prompts.build(text, knowledge, input_tokens=input_tokens)

    # -- all of it ------------------------------------------------------------------------------------------------

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        language: str | Sequence[str | None] | None = None,
        labels: str | Sequence[str] | None = None,
        threshold: float = 0.0,
    ) -> list[Prediction]:
        """The entities of each text, in order.

        Args:
            language: fix the adapter for all texts, or one (or None) a text; routed by retrieval where None.
            labels: report only these, or this one.
            threshold: report only entities of at least this probability, from 0 to 1.

        Raises:
            InputError: no text, a text that is too long, an unknown label, a threshold that is no probability.
            LanguageError: a language that the model does not have.
            EngineError: a server did not answer as expected. Where that concerns some of the texts only, it comes when
                the others are done: ``failures`` says what went wrong by number of the text, and ``results`` holds
                the predictions, None for the texts that failed.
        """
        texts = list(_listed(texts))
        languages = self._per_text(texts, language)
        wanted = self._wanted(labels)
        if not 0.0 <= threshold <= 1.0:
            raise InputError(f"expected a threshold from 0 to 1, got {threshold}")
        with self._lock:
            documents = self._cut(texts, languages)
            try:
                return self._predictions(self.engine, texts, documents, wanted, threshold)
            except EngineError as error:
                if not error.failures:
                    raise
                rest = FinishedEngine(error, list(map(len, documents)))
                kept = [texts[i] for i in rest.whole], [documents[i] for i in rest.whole]
                done = dict(zip(rest.whole, self._predictions(rest, *kept, wanted, threshold), strict=True))
                results = [done.get(i) for i in range(len(texts))]
                raise EngineError.of_items(rest.failures, results, "text") from None

    def scores(
        self, texts: str | Sequence[str], *, language: str | Sequence[str | None] | None = None
    ) -> list[npt.NDArray[Any]]:
        """What ``predict`` decodes: log-probabilities [words of ``segment``, tags] of each text.

        Raises:
            InputError: a model that generates has none; otherwise as ``predict``.
        """
        if self._generates:
            raise InputError("expected a model that tags words, this one generates its answers; call predict")
        texts = list(_listed(texts))
        with self._lock:
            return self._scores(self.engine, self._cut(texts, self._per_text(texts, language)))

    def stream(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = 256,
        language: str | None = None,
        labels: str | Sequence[str] | None = None,
        threshold: float = 0.0,
    ) -> Iterator[Prediction]:
        """Predictions one by one and in order, in memory for ``batch_size`` texts however many there are.

        Raises:
            InputError: as ``predict``, when the batch with the text is reached.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is at least 1, got {batch_size}")
        iterator = iter(_listed(texts))
        while batch := list(islice(iterator, batch_size)):
            yield from self.predict(batch, language=language, labels=labels, threshold=threshold)

    def reload(self) -> None:
        """See languages that were added to or removed from the folder since it was opened."""
        with self._lock:
            self.folder = ModelFolder.open(self.folder.path)
            self.knowledge = self.folder.knowledge()
            self._languages = self.folder.languages()
            self._calibrations.clear()
            refresh = getattr(self.engine, "refresh", None)
            if refresh is not None:
                refresh()

    # -- steps of predict -----------------------------------------------------------------------------------------

    def _per_text(self, texts: Sequence[str], language: str | Sequence[str | None] | None) -> list[str | None]:
        languages: list[str | None] = (
            [language] * len(texts) if language is None or isinstance(language, str) else list(language)
        )
        if len(languages) != len(texts):
            raise InputError(f"expected one language a text, {len(texts)}, got {len(languages)}")
        known = set(self.languages)
        for name in languages:
            if name is not None and name not in known:
                raise LanguageError(
                    f"expected one of the languages {', '.join(sorted(known)) or '(none)'}, got {str(name)[:80]!r}; "
                    "add it with: retrieveall add-language"
                )
        return languages

    def _wanted(self, labels: str | Sequence[str] | None) -> frozenset[str]:
        if labels is None:
            return frozenset(self.labels)
        wanted = [labels] if isinstance(labels, str) else list(labels)
        unknown = [label for label in wanted if label not in self.labels]
        if unknown:
            raise InputError(f"expected labels among {', '.join(self.labels)}, got {str(unknown[0])[:80]!r}")
        return frozenset(wanted)

    def _cut(self, texts: Sequence[str], languages: Sequence[str | None]) -> list[list[Part]]:
        """The windows of every text, each with its knowledge and its route."""
        decoder = self.config.decoder
        cut: list[tuple[int, str, int, list[Word], Window]] = []
        for number, text in enumerate(texts):
            _check_text(text, number)
            words = segment(text)
            costs = self._costs(words)
            for window in cut_windows(
                text, words, decoder.window_words, decoder.window_overlap, costs=costs, budget=self._room
            ):
                inside = words[window.start : window.end]
                offset = inside[0].start
                cut.append((number, text[offset : inside[-1].end], offset, inside, window))
        documents: list[list[Part]] = [[] for _ in texts]
        found = self.retrieve([stretch for _, stretch, _, _, _ in cut])
        for (number, stretch, offset, words, window), knowledge in zip(cut, found, strict=True):
            route = self.route(knowledge.neighbours, languages[number])
            documents[number].append(Part(stretch, offset, words, window, knowledge, route))
        return documents

    def _costs(self, words: Sequence[Word]) -> list[int] | None:
        """Tokens of each word, where there are so many that they limit a window."""
        if self.engine.count_words(words) <= self._room:
            return None
        return [self.engine.count_words((word,)) for word in words]

    def _prompt(self, part: Part) -> Prompt:
        return self.build_prompt(part.text, part.knowledge, input_tokens=self.engine.count_words(part.words))

    def _scores(self, engine: _Runner, documents: Sequence[Sequence[Part]]) -> list[npt.NDArray[Any]]:
        """Scores [words, tags] of each text, put together from its windows."""
        requests = [
            TagRequest(self._prompt(part), part.words, part.route.adapters) for parts in documents for part in parts
        ]
        scores = iter(engine.tag(requests))
        return [
            merge_scores([part.window for part in parts], [next(scores) for _ in parts]) if parts else _NO_WORDS
            for parts in documents
        ]

    def _tagged(self, engine: _Runner, texts: Sequence[str], documents: Sequence[Sequence[Part]]) -> list[_Decoded]:
        """The entities of each text by its tags, with the probabilities of the model."""
        spans = decode_batch(self._tags, self._scores(engine, documents))
        return [
            (to_entities(text, words_of(parts), own), None)
            for text, parts, own in zip(texts, documents, spans, strict=True)
        ]

    def _answers(self, engine: _Runner, texts: Sequence[str], documents: Sequence[Sequence[Part]]) -> list[_Decoded]:
        """The entities of each text by the answers about its windows, with the probabilities of the model."""
        requests = [
            GenerateRequest(self._prompt(part), part.text, part.words, part.route.adapters)
            for parts in documents
            for part in parts
        ]
        answers = iter(engine.generate(requests))
        found: list[_Decoded] = []
        for text, parts in zip(texts, documents, strict=True):
            own = [next(answers) for _ in parts]
            spans = [
                [(start + part.offset, end + part.offset, label, p) for start, end, label, p in answer.spans]
                for part, answer in zip(parts, own, strict=True)
            ]
            merged = merge_spans([part.window for part in parts], words_of(parts), spans)
            faults = AnswerFaults(
                sum(answer.malformed for answer in own),
                sum(answer.invented for answer in own),
                sum(answer.unknown for answer in own),
            )
            found.append(([Entity(start, end, label, text[start:end], p) for start, end, label, p in merged], faults))
        return found

    def _predictions(
        self,
        engine: _Runner,
        texts: Sequence[str],
        documents: Sequence[Sequence[Part]],
        wanted: frozenset[str],
        threshold: float,
    ) -> list[Prediction]:
        decode = self._answers if self._generates else self._tagged
        return [
            self._prediction(text, parts, decoded, wanted, threshold)
            for text, parts, decoded in zip(texts, documents, decode(engine, texts, documents), strict=True)
        ]

    def _prediction(
        self, text: str, parts: Sequence[Part], decoded: _Decoded, wanted: frozenset[str], threshold: float
    ) -> Prediction:
        entities, faults = decoded
        route = merge_routes(parts)
        calibration = self._calibration(route)
        total = sum(part.kept_words for part in parts)
        lengths = [len(segment(each.text)) for each in entities]
        calibrated = (
            replace(each, score=calibrate(each.score or 0.0, words, total - words, calibration))
            for each, words in zip(entities, lengths, strict=True)
        )
        kept = tuple(each for each in calibrated if each.label in wanted and (each.score or 0.0) >= threshold)
        return Prediction(text, kept, route, merge_knowledge(parts), faults)

    def _calibration(self, route: Route) -> Calibration:
        """The mean of the adapters' calibrations, weighted as the adapters are."""
        if not route.adapters:
            return UNCALIBRATED
        for language in route.adapters:
            if language not in self._calibrations:
                self._calibrations[language] = self.folder.calibration(language)
        weighted = [[weight * x for x in self._calibrations[name]] for name, weight in route.adapters.items()]
        return Calibration(*map(sum, zip(*weighted, strict=True)))


def _with_grammar(folder: ModelFolder, constrained: bool) -> ModelFolder:
    """The model with or without the grammar of answers, whatever its settings say; its files stay as they are."""
    decoder = folder.config.decoder
    if decoder.kind != "generation":
        raise InputError("expected a model that generates its answers to constrain them or not, this one tags words")
    decoder = decoder.model_copy(update={"constrained": constrained})
    return replace(folder, config=folder.config.model_copy(update={"decoder": decoder}))


def _listed(texts: str | Iterable[str]) -> Iterable[str]:
    """One text alone as a list of one."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, (bytes, bytearray, Mapping)) or not isinstance(texts, Iterable):
        raise InputError(
            f"expected a text or a list of texts, got {type(texts).__name__}; give str, and decode bytes first"
        )
    return texts


def _check_text(text: str, number: int) -> None:
    if not isinstance(text, str):
        raise InputError(
            f"expected a text, got {type(text).__name__} as text {number} of the list (the first is 0); "
            "give str, and decode bytes first"
        )
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"expected texts of at most {MAX_CHARACTERS:,} characters, got {len(text):,}; split the document"
        )
