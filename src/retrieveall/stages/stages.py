"""The stages between texts and the model, called by prediction, training, evaluation and planning.

    windows = stages.window(texts)
    knowledge = stages.retrieve(windows)
    routes = stages.route(windows, knowledge)
    prompts = stages.prompt(windows, knowledge)

They know neither engine nor decoder, only the cost of words in tokens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from retrieveall.config import ModelConfig
from retrieveall.data import find_borders, normalise, script_changes, segment
from retrieveall.knowledge import KnowledgeBase
from retrieveall.prompts import ChatFrame, Piece, Prompt, PromptBuilder, load_template
from retrieveall.routing import Router
from retrieveall.stages.window import Window, cut_windows, windows_to_run
from retrieveall.types import NO_LETTERS, Knowledge, Route, Sentence, Word

__all__ = ["Stages", "TokenCounter"]


class TokenCounter(Protocol):
    """Counts tokens; ``TokenCodec`` implements it."""

    def count(self, piece: Piece) -> int:
        """Tokens of a piece of a prompt."""
        ...

    def cost(self, words: Sequence[Word]) -> int:
        """Tokens of one copy of the words."""
        ...


class Stages:
    """Window, retrieve, route and prompt for one model's settings.

    Args:
        knowledge: the knowledge base; None disables retrieval.
        languages: languages with an adapter.
        frame: the chat template around the prompt, with ``prompt.chat``.
    """

    def __init__(
        self,
        config: ModelConfig,
        knowledge: KnowledgeBase | None,
        counter: TokenCounter,
        *,
        languages: Collection[str] = (),
        frame: ChatFrame | None = None,
    ) -> None:
        self._config = config
        self._knowledge = knowledge
        self._counter = counter
        self._languages = frozenset(languages)
        self._router = Router(config.routing)
        self._prompts = PromptBuilder(
            load_template(config.prompt.template),
            config.labels,
            config.prompt,
            counter.count,
            config.retrieval.min_similarity,
            frame,
        )
        self._room = self._prompts.room

    def window(self, texts: Sequence[str]) -> list[Window]:
        """The windows of the texts, in order; a text without words has none."""
        return [window for number, text in enumerate(texts) for window in self._cut(number, text)]

    def retrieve(
        self, windows: Sequence[Window], *, exclude: Sequence[Sentence | None] | None = None, votes: bool = True
    ) -> list[Knowledge]:
        """Retrieve the nearest training sentences of each window and the known mentions in it.

        Args:
            exclude: for each window, a training sentence to exclude, with all its duplicates.
            votes: also match the languages, for routing; otherwise only what the prompt can show.
        """
        if self._knowledge is None:
            return [Knowledge() for _ in windows]
        retrieval, shown = self._config.retrieval, self._config.prompt.context_examples
        return self._knowledge.retrieve(
            [window.text for window in windows],
            max(retrieval.neighbours, shown) if votes else shown,
            exclude=exclude,
            near_matches=retrieval.near_matches,
            partial_matches=retrieval.partial_matches,
            match_languages=votes,
        )

    def route(
        self, windows: Sequence[Window], knowledge: Sequence[Knowledge], languages: Sequence[str | None] | None = None
    ) -> list[Route]:
        """The route of each window: by its match with each language, or the language given for its text.

        A window that the model does not run on, because it has no letters, is in no language.

        Raises:
            LanguageError: a language without an adapter.
        """
        run = set(windows_to_run(windows))
        routes = []
        for number, (window, found) in enumerate(zip(windows, knowledge, strict=True)):
            given = None if languages is None else languages[window.document]
            if given is None and number not in run:
                routes.append(Route(reason=NO_LETTERS))
            else:
                routes.append(self._router.route(found.languages, self._languages, language=given))
        return routes

    def prompt(
        self, windows: Sequence[Window], knowledge: Sequence[Knowledge], routes: Sequence[Route] | None = None
    ) -> list[Prompt]:
        """The hierarchical prompt of each window.

        With ``prompt.without_adapter`` off, a window whose route has no adapter is shown no knowledge.
        """
        if routes is not None and not self._config.prompt.without_adapter:
            shown = zip(knowledge, routes, strict=True)
            knowledge = [found if route.adapters else Knowledge() for found, route in shown]
        return [
            self._prompts.build(window.text, found, input_tokens=self._cost(window.words))
            for window, found in zip(windows, knowledge, strict=True)
        ]

    def _cut(self, number: int, text: str) -> list[Window]:
        source = normalise(text)
        words = segment(source.text, particles=self._config.windows.hangul == "particles")
        # The first word of a window may have other tokens than the same word inside one.
        costs = None
        if self._cost(words) > self._room:
            costs = [max(self._cost((word,)), self._cost((_opening(word),))) for word in words]
        size, overlap, few = self._config.windows.words, self._config.windows.overlap, self._config.windows.joined_words
        borders = find_borders(source.text, words)
        cuts = cut_windows(
            len(words),
            size,
            overlap,
            few=few,
            borders=borders,
            ends=script_changes(words, borders),
            costs=costs,
            budget=self._room,
        )
        windows = []
        for cut in cuts:
            # Models learn from texts of one window, so every window has to look like a text.
            inside = [_opening(words[cut.start]), *words[cut.start + 1 : cut.end]]
            offset = inside[0].start
            keep = cut.keep_start - cut.start, cut.keep_end - cut.start
            stretch = source.text[offset : inside[-1].end]
            own = borders[bisect_right(borders, cut.start) : bisect_left(borders, cut.end)]
            ends = tuple(border - cut.start for border in own)
            windows.append(Window(number, source, stretch, offset, inside, keep, ends))
        return windows

    def _cost(self, words: Sequence[Word]) -> int:
        """Tokens of the words in a request, over all copies."""
        return self._counter.cost(words) * self._config.decoder.copies


def _opening(word: Word) -> Word:
    return replace(word, opens=True)
