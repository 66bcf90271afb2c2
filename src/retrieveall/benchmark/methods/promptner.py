"""PromptNER: a language model as it is, prompted with definitions of the labels and a few examples.

Two papers have this name. This follows Ashok and Lipton, "PromptNER: Prompting For Named Entity Recognition" (2023,
arXiv 2305.15444), since it is training-free and takes any language model: definitions, examples, and an answer that
lists candidates, each with True or False and a reason. The other, Shen et al., "PromptNER: Prompt Locating and Typing
for Named Entity Recognition" (ACL 2023, arXiv 2305.17104), trains a BERT with position and type slots and needs
neither definitions nor examples.

``answers: free`` is that paper's format, read leniently. Its reasons were written by hand for each example; here a
reason is the definition of the label. ``answers: constrained`` asks for the lines of this project's generation decoder
under its grammar, so that every answer can be read. Examples are drawn from the training sentences of the language,
those that show more labels first; nothing is retrieved.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

from retrieveall.answers import write_answer
from retrieveall.answers.format import Mentions
from retrieveall.benchmark.methods.base import Found, InProcess, Job
from retrieveall.benchmark.settings import PromptNerMethod
from retrieveall.config import GenerationConfig, ModelConfig, PromptConfig
from retrieveall.decoders import Reading, complete_config, make_decoder
from retrieveall.decoders.base import Span
from retrieveall.engines import Failure
from retrieveall.engines.base import WriteRequest
from retrieveall.errors import EngineError
from retrieveall.prompts import Piece, Prompt
from retrieveall.stages import Stages, Window
from retrieveall.tokens import TokenCodec, encode_question, load_tokenizer
from retrieveall.types import Entity, Route, Sentence

__all__ = ["PromptNerRunner", "choose_examples", "read_free"]

_INTRODUCTION = "Defn: An entity is a name of one of these kinds:\n"
_TASK = {
    "free": "Q: Given the text below, identify a list of possible entities and for each entry explain why it either is "
    "or is not an entity.\n",
    "constrained": "Q: Given the text below, list its entities in their order. Write a line for each: the kind, a "
    "space, and the entity as it stands in the text.\n",
}
_NUMBER = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*")
_TRUE = re.compile(r"^(?:true|yes)\b", re.IGNORECASE)


class PromptNerRunner(InProcess):
    """Prompts a causal language model that is not trained."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._method: PromptNerMethod = job.method
        self._engine: Any = None
        self._heads: dict[str, list[Piece]] = {}

    def fit(self) -> None:
        """Nothing is trained."""

    def open(self) -> None:
        from retrieveall.adapters.bank import AdapterBank
        from retrieveall.engines.local.backbone import check_length, load_backbone
        from retrieveall.engines.local.engine import LocalEngine, choose_device

        config = self._config()
        codec = TokenCodec(load_tokenizer(config.backbone, None), config.decoder.spacing)
        chat = self._method.chat
        self._frame = codec.chat_frame() if chat or (chat is None and codec.tokenizer.chat_template) else None
        self._config_used = complete_config(config, codec)
        model = load_backbone(config, None).to(choose_device(self._job.device))
        check_length(config, model)
        self._engine = LocalEngine(model, AdapterBank.attach(model), codec, full_attention=False)
        self._codec = codec
        self._stages = Stages(self._config_used, None, codec)
        self._decoder = make_decoder(self._config_used, codec)

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        windows = self._stages.window(texts)
        head = self._head(language)
        prompts = [self._prompt(head) for _ in windows]
        routes = [Route({}, reason="fixed")] * len(windows)
        if self._method.answers == "free":
            readings = self._read_freely(windows, prompts)
        else:
            readings = self._decoder.decode(self._engine, windows, prompts, routes)
        found: list[list[Entity]] = [[] for _ in texts]
        for window, reading in zip(windows, readings, strict=True):
            if isinstance(reading, Failure):
                raise EngineError(reading.reason)
            found[window.document] += _entities(window, reading.spans, texts[window.document])
        return [Found(tuple(entities)) for entities in found]

    def trained_bytes(self) -> int:
        return 0

    def _config(self) -> ModelConfig:
        return ModelConfig(
            name="promptner",
            backbone=self._job.required_backbone(),
            labels=self._job.labels,
            prompt=PromptConfig(template="answer.v1", max_tokens=self._method.max_tokens),
            decoder=GenerationConfig(max_answer_tokens=self._method.max_answer_tokens),
        )

    def _head(self, language: str) -> list[Piece]:
        """Definitions, task and as many examples as fit into half of the tokens, the same for every text."""
        if language not in self._heads:
            train = self._job.corpora[language].train
            examples = choose_examples(train, self._method.examples, self._job.seed)
            while examples and self._tokens(self._pieces(examples)) > self._method.max_tokens // 2:
                examples = examples[:-1]
            self._heads[language] = self._pieces(examples)
        return self._heads[language]

    def _tokens(self, pieces: Iterable[Piece]) -> int:
        return sum(self._codec.count(piece) for piece in pieces)

    def _pieces(self, examples: Sequence[Sentence]) -> list[Piece]:
        pieces = [Piece(_INTRODUCTION, True)]
        for label in self._job.labels:
            pieces.append(Piece(f"- {label.name}: {label.definition or label.name}\n", True))
        pieces.append(Piece(_TASK[self._method.answers], True))
        for example in examples:
            pieces += [Piece("\nText: ", True), Piece(example.text, False), Piece("\nAnswer:\n", True)]
            pieces.append(Piece(self._answer(example) + "\n", False))
        return [*pieces, Piece("\nText: ", True)]

    def _answer(self, example: Sentence) -> str:
        """The answer to an example: lines, content and not markup, so that no special token is read in it."""
        if self._method.answers == "constrained":
            return write_answer(example.text, example.entities)
        meanings = {label.name: label.definition or label.name for label in self._job.labels}
        return "\n".join(
            f"{number}. {each.text} | True | as it is: {meanings.get(each.label, each.label)} ({each.label})"
            for number, each in enumerate(example.entities, 1)
        )

    def _prompt(self, head: Sequence[Piece]) -> Prompt:
        opening = () if self._frame is None else (Piece(self._frame.before, True),)
        closing = () if self._frame is None else (Piece(self._frame.after, True),)
        return Prompt((*opening, *head), (Piece("\nAnswer:\n", True), *closing))

    def _read_freely(self, windows: Sequence[Window], prompts: Sequence[Prompt]) -> list[Reading | Failure]:
        labels, most = self._job.label_names, self._method.max_answer_tokens
        requests = [
            WriteRequest(
                encode_question(self._codec, prompt, window.words).ids, window.text, {}, labels, "as_is", most, False
            )
            for window, prompt in zip(windows, prompts, strict=True)
        ]
        return [
            answer
            if isinstance(answer, Failure)
            else Reading(_kept(window, read_free(answer.answer, window.text, labels)))
            for window, answer in zip(windows, self._engine.write(requests), strict=True)
        ]


def choose_examples(sentences: Sequence[Sentence], number: int, seed: int) -> list[Sentence]:
    """Sentences in random order, first those that add a label that the ones before do not show."""
    order = list(sentences)
    random.Random(seed).shuffle(order)
    chosen: list[Sentence] = []
    shown: set[str] = set()
    for sentence in order:
        labels = {entity.label for entity in sentence.entities}
        if labels - shown:
            chosen.append(sentence)
            shown |= labels
    chosen += [sentence for sentence in order if sentence not in chosen[:number]][: max(0, number - len(chosen))]
    return chosen[:number]


def read_free(answer: str, text: str, labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """The spans (start, end, label) in an answer of lines such as ``1. London | True | as it is a city (LOC)``.

    Lenient: numbers, bullets and reasons may be missing, the label may be in another case and in any field after the
    first. A line that is no entity, names no label, or whose words are not in the text is passed over. A line that
    begins the next text ends the answer. A mention that comes twice is looked for behind its first place.
    """
    mentions = Mentions(text)
    found: list[tuple[int, int, str]] = []
    taken: set[int] = set()
    for line in answer.splitlines():
        if line.strip().lower().startswith(("text:", "q:", "defn:")):
            break
        read = _read_line(line, labels)
        span = None if read is None else _free_place(mentions, read[0], taken)
        if read is not None and span is not None:
            taken.update(range(*span))
            found.append((*mentions.span(*span), read[1]))
    return sorted(found)


def _read_line(line: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """Mention and label of a line."""
    mention, *rest = (field.strip() for field in _NUMBER.sub("", line).split("|"))
    verdicts = [field for field in rest if field.lower() in ("true", "false", "yes", "no")]
    if not mention or not rest or any(not _TRUE.match(verdict) for verdict in verdicts):
        return None
    reason = " ".join(field for field in rest if field not in verdicts)
    places = {
        label: found[-1].start()
        for label in labels
        if (found := list(re.finditer(rf"(?<!\w){re.escape(label)}(?!\w)", reason, re.IGNORECASE)))
    }
    return (mention, max(places, key=lambda label: places[label])) if places else None


def _free_place(mentions: Mentions, mention: str, taken: set[int]) -> tuple[int, int] | None:
    """The first (first, last + 1) words of a mention that no other one has."""
    after = 0
    while after < len(mentions) and (span := mentions.find(mention, after)) is not None:
        if not taken & set(range(*span)):
            return span
        after = span[0] + 1
    return None


def _kept(window: Window, spans: Sequence[tuple[int, int, str]]) -> tuple[Span, ...]:
    first, last = window.kept_span
    moved = (Span(start + window.offset, end + window.offset, label, 1.0) for start, end, label in spans)
    return tuple(span for span in moved if first <= span.start < last)


def _entities(window: Window, spans: Iterable[Span], text: str) -> list[Entity]:
    found = []
    for start, end, label, _ in spans:
        first, last = window.source.span(start, end)
        found.append(Entity(first, last, label, text[first:last]))
    return found
