"""Tagging with the scores of tag tokens, one forward pass per window."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from retrieveall.config import ModelConfig, TaggingConfig
from retrieveall.data import has_letter, may_be_edge, to_word_spans
from retrieveall.decoders.base import Gold, Reading, Span, Target
from retrieveall.decoders.tagging.lattice import IMPOSSIBLE, decode_batch
from retrieveall.decoders.tagging.tags import TagSet
from retrieveall.engines.base import Engine, Failure, ScoreRequest, Scores
from retrieveall.prompts import Prompt
from retrieveall.stages import Window, windows_to_run
from retrieveall.tokens import EncodedInput, TokenCodec, choose_tag_tokens, encode_input, tag_token_ids
from retrieveall.types import Route, Word

__all__ = ["TaggingDecoder"]


class TaggingDecoder:
    """Reads the tag of each word at its last sub-word, in the second copy of the text if there are two.

    Raises:
        ConfigError: the tokenizer lacks a tag token.
    """

    def __init__(self, config: ModelConfig, codec: TokenCodec) -> None:
        settings = _settings(config)
        self.tags = TagSet(config.label_names)
        self.candidates = tuple(tag_token_ids(self.tags.tags, settings.tag_tokens, codec))
        self._codec = codec
        self._temperature = settings.temperature
        self._repeat = settings.copies == 2

    @staticmethod
    def complete(config: ModelConfig, codec: TokenCodec) -> ModelConfig:
        """``config`` with a token for each tag."""
        settings = _settings(config)
        tokens = choose_tag_tokens(TagSet(config.label_names).tags, settings.tag_tokens, codec)
        return config.model_copy(update={"decoder": settings.model_copy(update={"tag_tokens": tokens})})

    def decode(
        self, engine: Engine, windows: Sequence[Window], prompts: Sequence[Prompt], routes: Sequence[Route]
    ) -> list[Reading | Failure]:
        """The best well-formed tag sequence as spans, each with its probability.

        Overlapping windows are decoded together, so that an entity may extend into the next one. The model does not run
        on windows that can hold no part of an entity.
        """
        run = windows_to_run(windows)
        scores: list[Scores | Failure | None] = [None] * len(windows)
        found = self.scores(engine, [windows[i] for i in run], [prompts[i] for i in run], [routes[i] for i in run])
        for i, rows in zip(run, found, strict=True):
            scores[i] = rows
        results: list[Reading | Failure] = [each if isinstance(each, Failure) else Reading() for each in scores]
        stretches = _stretches(windows, scores)
        # No entity crosses a border, so the words between two borders are decoded alone: probabilities remain exact.
        units = [(number, *unit) for number, stretch in enumerate(stretches) for unit in _units(stretch)]
        decoded = decode_batch(
            self.tags,
            [self._masked(words, rows) for _, words, rows in units],
            [np.array([has_letter(word) for word in words], dtype=np.bool_) for _, words, _ in units],
        )
        own_spans: list[list[Span]] = [[] for _ in stretches]
        for (number, words, _), spans in zip(units, decoded, strict=True):
            own_spans[number] += [
                Span(words[first].start, words[last - 1].end, label, p) for first, last, label, p in spans
            ]
        for stretch, own in zip(stretches, own_spans, strict=True):
            starts = [span.start for span in own]
            for i, window, _ in stretch:
                first, last = (bisect_left(starts, bound) for bound in window.kept_span)
                results[i] = Reading(tuple(own[first:last]))
        return results

    def _masked(self, words: Sequence[Word], rows: Scores) -> Scores:
        """The scores without tags at which a word would begin or end an entity and may not."""
        barred = [number for number, word in enumerate(words) if not may_be_edge(word)]
        if not barred:
            return rows
        rows = rows.copy()
        rows[np.array(barred)[:, None], np.flatnonzero(self.tags.edges)] = IMPOSSIBLE
        return rows

    def scores(
        self, engine: Engine, windows: Sequence[Window], prompts: Sequence[Prompt], routes: Sequence[Route]
    ) -> list[Scores | Failure]:
        """Log-probabilities float32 [words, tags] of each window."""
        scored = engine.score(self._requests(windows, prompts, routes))
        return [rows if isinstance(rows, Failure) else self._log_probs(rows) for rows in scored]

    def target(self, window: Window, prompt: Prompt, gold: Gold) -> Target:
        """The gold tags of the window's kept words, without those of entities that it cannot read.

        These are entities cut by the window, and those that cannot be (``Window.allows``).
        """
        encoded = self._encode(window, prompt)
        end = window.offset + len(window.text)
        spans = to_word_spans(window.words, gold)
        tags = self.tags.encode(spans, len(window.words))
        cut = [entity for entity in gold if entity.start < window.offset or entity.end > end]
        unread = to_word_spans(window.words, cut) + [each for each in spans if not window.allows(each[0], each[1])]
        hidden = {word for first, last, _ in unread for word in range(first, last)}
        learnt = [word for word in range(*window.keep) if word not in hidden]
        return Target(
            encoded.ids,
            [encoded.tag_positions[word] for word in learnt],
            [tags[word] for word in learnt],
            list(zip(encoded.word_starts, encoded.tag_positions, strict=True)),
        )

    def _requests(
        self, windows: Sequence[Window], prompts: Sequence[Prompt], routes: Sequence[Route]
    ) -> list[ScoreRequest]:
        requests = []
        for window, prompt, route in zip(windows, prompts, routes, strict=True):
            encoded = self._encode(window, prompt)
            requests.append(ScoreRequest(encoded.ids, encoded.tag_positions, self.candidates, route.adapters))
        return requests

    def _encode(self, window: Window, prompt: Prompt) -> EncodedInput:
        return encode_input(self._codec, prompt, window.words, repeat=self._repeat)

    def _log_probs(self, scores: Scores) -> Scores:
        rows = scores / self._temperature
        shifted = rows - rows.max(axis=1, keepdims=True) if len(rows) else rows
        result: Scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return result


_Stretch: TypeAlias = list[tuple[int, Window, Scores]]
"""Overlapping windows of one text, in order, with their numbers and scores."""


def _stretches(windows: Sequence[Window], scores: Sequence[Scores | Failure | None]) -> list[_Stretch]:
    """Runs of overlapping windows, in text order; a window without scores ends a run."""
    stretches: list[_Stretch] = []
    before: Window | None = None
    for i in sorted(range(len(windows)), key=lambda i: (windows[i].document, windows[i].kept_span)):
        window, rows = windows[i], scores[i]
        if rows is None or isinstance(rows, Failure):
            before = None
            continue
        if before is None or not window.continues(before):
            stretches.append([])
        stretches[-1].append((i, window, rows))
        before = window
    return stretches


def _units(stretch: _Stretch) -> Iterator[tuple[Sequence[Word], Scores]]:
    """The kept words of a stretch and their scores, split at borders."""
    words: list[Word] = []
    bounds = [0]
    for _, window, _ in stretch:
        first, last = window.keep
        bounds += [len(words) + border - first for border in window.borders if first <= border < last]
        words += window.words[first:last]
    rows = np.concatenate([rows[slice(*window.keep)] for _, window, rows in stretch])
    for start, end in pairwise([*bounds, len(words)]):
        if start < end:
            yield words[start:end], rows[start:end]


def _settings(config: ModelConfig) -> TaggingConfig:
    assert isinstance(config.decoder, TaggingConfig)
    return config.decoder
