"""The generation decoder: the model writes one line per entity, by default under a grammar."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property

from retrieveall.answers import parse_answer, write_answer
from retrieveall.answers.grammar import AnswerGrammar
from retrieveall.config import GenerationConfig, ModelConfig
from retrieveall.data import check_label, may_be_edge, to_word_spans
from retrieveall.decoders.base import Gold, Reading, Span, Target
from retrieveall.engines.base import Engine, Failure, WriteRequest, Written
from retrieveall.prompts import Prompt
from retrieveall.stages import Window
from retrieveall.tokens import TokenCodec, encode_question
from retrieveall.types import AnswerFaults, Entity, Route

__all__ = ["GenerationDecoder"]


class GenerationDecoder:
    """Parses the lines that the model writes; the probability of an entity is that of its line.

    Raises:
        ConfigError: the tokenizer has no end token.
    """

    candidates = None

    def __init__(self, config: ModelConfig, codec: TokenCodec) -> None:
        self._settings = _settings(config)
        self._labels = config.label_names
        self._codec = codec
        self._end = codec.answer_end()

    @staticmethod
    def complete(config: ModelConfig, codec: TokenCodec) -> ModelConfig:
        """Check that the tokenizer can write the answers; returns ``config`` unchanged."""
        _ = GenerationDecoder(config, codec)._grammar
        return config

    def decode(
        self, engine: Engine, windows: Sequence[Window], prompts: Sequence[Prompt], routes: Sequence[Route]
    ) -> list[Reading | Failure]:
        """The entities in the model's answers, and the faults of the answers.

        The model does not answer about windows without a letter.
        """
        asked = [each for each in zip(windows, prompts, routes, strict=True) if each[0].may_hold_entities]
        written = iter(engine.write([self._request(*each) for each in asked]))
        return [
            self._read(next(written), window) if window.may_hold_entities else Reading((), AnswerFaults())
            for window in windows
        ]

    def target(self, window: Window, prompt: Prompt, gold: Gold) -> Target:
        """The tokens of the gold answer, tokenized as under the grammar.

        Entities cut by the window and those that cannot be (``Window.allows``) are left out, and words of the answer
        are never masked.

        Raises:
            InputError: a label that the model does not have.
        """
        for each in gold:
            check_label(each.label, self._labels)
        encoded = encode_question(self._codec, prompt, window.words)
        end = window.offset + len(window.text)
        own = [
            Entity(each.start - window.offset, each.end - window.offset, each.label)
            for each in gold
            if each.start >= window.offset
            and each.end <= end
            and all(window.allows(first, last) for first, last, _ in to_word_spans(window.words, [each]))
        ]
        answer = self._grammar.encode(write_answer(window.text, own, self._settings.spacing))
        tokens = [*answer, self._end]
        question = len(encoded.ids)
        named = {word for first, last, _ in to_word_spans(window.words, gold) for word in range(first, last)}
        words = [
            span
            for word, span in enumerate(zip(encoded.word_starts, encoded.tag_positions, strict=True))
            if word not in named
        ]
        return Target(encoded.ids + tokens, list(range(question - 1, question - 1 + len(tokens))), tokens, words)

    def _request(self, window: Window, prompt: Prompt, route: Route) -> WriteRequest:
        return WriteRequest(
            encode_question(self._codec, prompt, window.words).ids,
            window.text,
            route.adapters,
            self._labels,
            self._settings.spacing,
            self._settings.max_answer_tokens,
            self._settings.constrained,
        )

    def _read(self, written: Written | Failure, window: Window) -> Reading | Failure:
        if isinstance(written, Failure):
            return written
        parsed = parse_answer(written.answer, window.text, self._labels)
        spans = [
            Span(*trimmed, label, _probability(written, line))
            for (start, end, label), line in zip(parsed.spans, parsed.lines, strict=True)
            if (trimmed := _trimmed(window, start + window.offset, end + window.offset)) is not None
        ]
        endless = not written.constrained and not written.ended
        faults = AnswerFaults(parsed.malformed + endless, parsed.invented, parsed.unknown)
        return Reading(_kept(window, spans), faults)

    @cached_property
    def _grammar(self) -> AnswerGrammar:
        backend = self._codec.tokenizer.backend
        size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        return AnswerGrammar(backend.to_str(), size, (self._end,), self._labels, self._settings.spacing)


def _trimmed(window: Window, start: int, end: int) -> tuple[int, int] | None:
    """The mention without markup and emoji at its edges; None if it cannot be an entity, as across a border.

    Here and not in the grammar, so that it holds for free answers and for the grammars of servers too.
    """
    first, last = (bisect_left(window.words, at, key=lambda word: word.start) for at in (start, end))
    while first < last and not may_be_edge(window.words[first]):
        first += 1
    while first < last and not may_be_edge(window.words[last - 1]):
        last -= 1
    if first == last or not window.allows(first, last):
        return None
    return window.words[first].start, window.words[last - 1].end


def _kept(window: Window, spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans that begin in the kept part of the window, by position."""
    first, last = window.kept_span
    return tuple(sorted(span for span in spans if first <= span.start < last))


def _probability(written: Written, line: int) -> float:
    return math.exp(max(written.lines[line], -50.0)) if line < len(written.lines) else 0.0


def _settings(config: ModelConfig) -> GenerationConfig:
    assert isinstance(config.decoder, GenerationConfig)
    return config.decoder
