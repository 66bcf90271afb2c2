"""The stages: windows hold the text, what is excluded is not retrieved, routes and knowledge are merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.config import (
    GenerationConfig,
    LabelConfig,
    ModelConfig,
    PromptConfig,
    RetrievalConfig,
    TaggingConfig,
    WindowConfig,
)
from retrieveall.data import segment
from retrieveall.errors import InputError, LanguageError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.prompts import ChatFrame, PromptBuilder, load_template
from retrieveall.stages import Stages, Window, merge_knowledge, merge_routes
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Route, Sentence
from tiny import codec_of

LABELS = tuple(LabelConfig(name=name) for name in ("PER", "ORG", "LOC"))
DECODERS: dict[str, tuple[TaggingConfig | GenerationConfig, str]] = {
    "full": (TaggingConfig(attention="full"), "mini.v1"),
    "repeat": (TaggingConfig(), "plain.v1"),
    "generation": (GenerationConfig(), "answer.v1"),
}
PIECES = st.sampled_from(
    ["Anna ", "Köln", " ", ". ", "北京", "\n\n", "é", "e\u0301", "<|end|> ", "👩🏽‍🚀", "Donaudampf" * 9]
)
LONG = "Anna Meier war gestern mit Karl May in Köln und Ulm bei Siemens " * 9


@pytest.fixture(scope="session")
def knowledge(corpus: dict[str, list[Sentence]]) -> KnowledgeBase:
    return KnowledgeBase.build(corpus)


@pytest.fixture(scope="session")
def make_stages(tiny_tokenizer: Any) -> Callable[..., Stages]:
    """``make_stages(kind, base, max_tokens=..., frame=..., languages=...)``; ``kind`` is one of ``DECODERS``."""

    def make(kind: str = "full", base: KnowledgeBase | None = None, max_tokens: int = 4000, **options: Any) -> Stages:
        decoder, template = DECODERS[kind]
        config = ModelConfig(
            labels=LABELS,
            prompt=PromptConfig(template=template, max_tokens=max_tokens, context_examples=2, entity_examples=4),
            retrieval=RetrievalConfig(neighbours=8),
            windows=WindowConfig(words=24, overlap=6),
            decoder=decoder,
        )
        return Stages(config, base, codec_of(tiny_tokenizer, decoder.spacing), **options)

    return make


def kept(window: Window) -> list[tuple[int, int]]:
    return [(word.start, word.end) for word in window.words[slice(*window.keep)]]


class TestWindow:
    @pytest.mark.parametrize("kind", DECODERS)
    def test_windows_hold_the_words_of_their_texts_once(self, make_stages: Callable[..., Stages], kind: str) -> None:
        stages = make_stages(kind)

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(st.lists(PIECES, max_size=60).map("".join), max_size=3))
        def check(texts: list[str]) -> None:
            windows = stages.window(texts)
            assert [window.document for window in windows] == sorted(window.document for window in windows)
            for number, text in enumerate(texts):
                own = [window for window in windows if window.document == number]
                for window in own:
                    source = window.source.text
                    assert window.text == source[window.offset : window.offset + len(window.text)]
                    assert (window.offset, window.offset + len(window.text)) == (
                        window.words[0].start,
                        window.words[-1].end,
                    )
                    assert all(source[word.start : word.end] == word.text for word in window.words)
                    assert [word.opens for word in window.words] == [True, *[False] * (len(window.words) - 1)]
                    assert len(window.words) <= 24
                    assert 0 < window.kept_words == len(kept(window))
                    assert window.kept_span == (kept(window)[0][0], kept(window)[-1][1])
                words = segment(own[0].source.text if own else text)
                assert [span for window in own for span in kept(window)] == [(word.start, word.end) for word in words]

        check()

    def test_a_text_without_words_has_no_window(self, make_stages: Callable[..., Stages]) -> None:
        assert make_stages().window(["", " \n\t", "\u200b"]) == make_stages().window([]) == []

    @pytest.mark.parametrize("kind", DECODERS)
    def test_windows_fit_the_budget_with_all_copies(
        self, make_stages: Callable[..., Stages], tiny_tokenizer: Any, kind: str
    ) -> None:
        """The prompt of a window without knowledge, with the text, has at most ``prompt.max_tokens``."""
        limit = 600
        stages = make_stages(kind, max_tokens=limit)
        codec = codec_of(tiny_tokenizer, DECODERS[kind][0].spacing)
        windows = stages.window([LONG])
        copies = DECODERS[kind][0].copies
        for window, prompt in zip(windows, stages.prompt(windows, stages.retrieve(windows)), strict=True):
            text = codec.cost(window.words) * copies
            assert text + sum(codec.count(piece) for piece in (*prompt.before, *prompt.repeat)) <= limit
        fewer = make_stages(kind, max_tokens=40).window([LONG])
        assert len(fewer) > len(windows) >= 5


class TestRetrieve:
    def test_nothing_without_knowledge(self, make_stages: Callable[..., Stages]) -> None:
        stages = make_stages()
        windows = stages.window([LONG, "Ulm"])
        assert stages.retrieve(windows) == [Knowledge()] * len(windows)

    def test_each_window_has_its_own(self, make_stages: Callable[..., Stages], knowledge: KnowledgeBase) -> None:
        stages = make_stages(base=knowledge)
        windows = stages.window([LONG, "Karl May in London", "昨天李白上了报纸。"])
        together = stages.retrieve(windows)
        assert [stages.retrieve([window])[0] for window in windows] == together
        assert all(len(found.neighbours) == 8 for found in together)
        for window, found in zip(windows, together, strict=True):
            assert all(0 <= each.start < each.end <= len(window.text) for each in found.entities)

    def test_what_is_excluded_was_never_seen(
        self, make_stages: Callable[..., Stages], knowledge: KnowledgeBase, corpus: dict[str, list[Sentence]]
    ) -> None:
        stages = make_stages(base=knowledge)
        sentences = [each for own in corpus.values() for each in own[:5]]
        windows = stages.window([each.text for each in sentences])
        assert len(windows) == len(sentences)
        seen = stages.retrieve(windows)
        unseen = stages.retrieve(windows, exclude=sentences)
        for sentence, before, after in zip(sentences, seen, unseen, strict=True):
            assert sentence.text in {each.sentence.text for each in before.neighbours}
            assert sentence.text not in {each.sentence.text for each in after.neighbours}
        assert stages.retrieve(windows, exclude=[None] * len(windows)) == seen

    def test_training_needs_no_votes(self, make_stages: Callable[..., Stages], knowledge: KnowledgeBase) -> None:
        stages = make_stages(base=knowledge)
        windows = stages.window(["Karl May in London", "北京"])
        voting, showing = stages.retrieve(windows), stages.retrieve(windows, votes=False)
        for more, less in zip(voting, showing, strict=True):
            assert less.neighbours == more.neighbours[:2]
            assert less.entities == more.entities
        assert stages.prompt(windows, voting) == stages.prompt(windows, showing)


class TestRoute:
    def test_by_votes_or_as_given_for_the_text(
        self, make_stages: Callable[..., Stages], knowledge: KnowledgeBase
    ) -> None:
        stages = make_stages(base=knowledge, languages=("de", "en", "zh"))
        windows = stages.window(["昨天李白上了报纸。", LONG, "Ulm"])
        found = stages.retrieve(windows)
        assert stages.route(windows, found)[0].language == "zh"
        fixed = stages.route(windows, found, [None, "en", "de"])
        assert fixed[0] == stages.route(windows, found)[0]
        assert {route.language for route in fixed[1:-1]} == {"en"}
        assert fixed[-1].adapters == {"de": 1.0}

    def test_a_language_without_an_adapter(self, make_stages: Callable[..., Stages]) -> None:
        stages = make_stages(languages=("de",))
        windows = stages.window(["Ulm"])
        with pytest.raises(LanguageError, match="fr"):
            stages.route(windows, stages.retrieve(windows), ["fr"])

    def test_every_window_has_its_knowledge(self, make_stages: Callable[..., Stages]) -> None:
        stages = make_stages()
        windows = stages.window(["Ulm", "Köln"])
        for stage in (stages.route, stages.prompt):
            with pytest.raises(ValueError, match="shorter"):
                stage(windows, [Knowledge()])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("frame", [None, ChatFrame("<user>", "<assistant>")])
def test_prompts_are_those_of_the_builder(
    make_stages: Callable[..., Stages], knowledge: KnowledgeBase, tiny_tokenizer: Any, kind: str, frame: Any
) -> None:
    stages = make_stages(kind, knowledge, frame=frame)
    windows = stages.window(["Karl May in London", "昨天李白上了报纸。"])
    found = stages.retrieve(windows)
    decoder, template = DECODERS[kind]
    settings = PromptConfig(template=template, max_tokens=4000, context_examples=2, entity_examples=4)
    codec = codec_of(tiny_tokenizer, decoder.spacing)
    builder = PromptBuilder(load_template(template), LABELS, settings, codec.count, 0.0, frame)
    for window, known, prompt in zip(windows, found, stages.prompt(windows, found), strict=True):
        assert prompt == builder.build(window.text, known, input_tokens=codec.cost(window.words) * decoder.copies)


@dataclass(frozen=True)
class Source:
    """A normal form of which a character stands for ``factor`` characters of the text."""

    factor: int = 1
    source: str = "as given"

    @property
    def text(self) -> str:
        return self.source if self.factor == 1 else "another"

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.factor * start, self.factor * end


def window(offset: int, words: int, source: Any = Source()) -> Window:
    text = "a " * words
    return Window(0, source, text, offset, segment(text), (0, words))


class TestMerge:
    def test_the_route_of_a_text_is_the_mean_over_its_words(self) -> None:
        routes = [
            Route({"de": 1.0}, {"de": 0.9, "en": 0.1}, "vote"),
            Route({"de": 0.5, "en": 0.5}, {"en": 1.0}, "vote"),
        ]
        merged = merge_routes([window(0, 3), window(6, 1)], routes)
        assert merged.adapters == pytest.approx({"de": 0.875, "en": 0.125})
        assert merged.votes == pytest.approx({"de": 0.675, "en": 0.325})
        assert merged.reason == "vote"
        mixed = merge_routes([window(0, 3), window(6, 1)], [routes[0], replace(routes[1], reason="mixture")])
        assert mixed.reason == "mixture"

    def test_a_text_is_unknown_if_most_of_it_is(self) -> None:
        known, unknown = Route({"de": 1.0}, {"de": 1.0}), Route({}, {"de": 1.0}, "unknown")
        most = merge_routes([window(0, 3), window(6, 1)], [unknown, known])
        assert (most.reason, most.adapters) == ("unknown", {})
        least = merge_routes([window(0, 3), window(6, 1)], [known, unknown])
        assert (least.reason, least.adapters) == ("vote", {"de": 1.0})

    def test_an_unknown_text_runs_the_adapters_of_its_unknown_windows(self) -> None:
        known, unknown = Route({"de": 1.0}, {"de": 1.0}), Route({"en": 0.5, "de": 0.5}, {"en": 1.0}, "unknown")
        most = merge_routes([window(0, 3), window(6, 1)], [unknown, known])
        assert (most.reason, most.adapters, most.language) == ("unknown", {"en": 0.5, "de": 0.5}, None)
        assert merge_routes([window(0, 3), window(6, 1)], [known, unknown]).adapters == {"de": 1.0}

    def test_the_route_of_one_window_and_of_none(self) -> None:
        route = Route({"de": 1.0}, {"de": 1.0}, "fixed")
        assert merge_routes([window(0, 3)], [route]) is route
        assert merge_routes([], []) == Route(reason="no_letters")

    def test_windows_without_letters_do_not_count(self) -> None:
        silent, known = Route(reason="no_letters"), Route({"de": 1.0}, {"de": 0.9, "en": 0.1}, "vote")
        windows = [window(0, 9), window(9, 1), window(10, 9)]
        assert merge_routes(windows, [silent, known, silent]) == known
        assert merge_routes(windows, [silent, Route({}, {}, "unknown"), silent]).reason == "unknown"
        assert merge_routes(windows, [silent] * 3) == silent
        two = merge_routes(windows, [known, silent, replace(known, adapters={"en": 1.0})])
        assert (two.adapters, two.reason) == ({"de": 0.5, "en": 0.5}, "vote")
        assert two.votes == pytest.approx(known.votes)
        beside = Route({"zh": 1.0}, {"zh": 1.0}, "fallback")  # run for the sake of its neighbour
        assert merge_routes(windows, [beside, known, silent]) == known
        assert merge_routes(windows, [beside, silent, beside]).adapters == {"zh": 1.0}

    def test_the_weights_of_a_text_sum_to_one(
        self, make_stages: Callable[..., Stages], knowledge: KnowledgeBase
    ) -> None:
        stages = make_stages(base=knowledge, languages=("de", "en", "zh"))
        windows = stages.window([LONG + "昨天李白上了报纸。" * 9])
        routes = stages.route(windows, stages.retrieve(windows))
        assert len({route.language for route in routes}) > 1
        known = [(window, route) for window, route in zip(windows, routes, strict=True) if route.reason != "unknown"]
        assert sum(merge_routes(*zip(*known, strict=True)).adapters.values()) == pytest.approx(1.0)

    def test_knowledge_of_all_windows_once_and_nearest_first(self) -> None:
        near, far = (Sentence(text, (Entity(0, 1, "PER"),), "en", text) for text in ("near", "far"))
        first = Knowledge((Neighbour(far, 0.2),), (KnownEntity(2, 3, "x"), KnownEntity(6, 7, "y")))
        second = Knowledge(
            (Neighbour(near, 0.9), Neighbour(far, 0.4)), (KnownEntity(0, 1, "y"), KnownEntity(2, 3, "z"))
        )
        merged = merge_knowledge([window(0, 4), window(6, 4)], [first, second])
        assert merged.neighbours == (Neighbour(near, 0.9), Neighbour(far, 0.4))
        assert [(each.start, each.end, each.surface) for each in merged.entities] == [
            (2, 3, "x"), (6, 7, "y"), (8, 9, "z"),
        ]  # fmt: skip

    def test_offsets_are_those_of_the_text_as_it_was_given(self) -> None:
        known = Knowledge((), (KnownEntity(2, 3, "x"),))
        plain = merge_knowledge([window(0, 4)], [known])
        assert plain is known
        assert [(each.start, each.end) for each in merge_knowledge([window(4, 4)], [known]).entities] == [(6, 7)]
        for offset, expected in ((0, (4, 6)), (4, (12, 14))):
            changed = merge_knowledge([window(offset, 4, Source(2))], [known])
            assert [(each.start, each.end) for each in changed.entities] == [expected]
        assert merge_knowledge([], []) == Knowledge()


def test_exclude_must_name_every_window(make_stages: Callable[..., Stages], knowledge: KnowledgeBase) -> None:
    stages = make_stages(base=knowledge)
    with pytest.raises(InputError):
        stages.retrieve(stages.window(["Ulm", "Köln"]), exclude=[None])
