"""What holds for every decoder: one suite, run over each of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_engines import Oracle, Untrained

from retrieveall.data import find_borders, normalise, segment
from retrieveall.decoders import Reading, gold_of
from retrieveall.engines import Failure
from retrieveall.errors import InputError
from retrieveall.stages import Window
from retrieveall.types import Entity
from tiny import Flaky, Recorder

KINDS = ["full", "repeat", "generation"]
LONG = "Anna Meier war gestern mit Karl May in Köln und Ulm bei Siemens " * 9  # no sentence ends
STORY = "Ada Lovelace left London. Then J. Smith of Intel came to New York! 李白在北京大学。 " * 7
TEXTS = [LONG, "Ulm", STORY, "", " \n", "昨天李白上了报纸。", "👩🏽‍🚀 e\u0301 \u202eabc <|end|> PER x", "a\tb\n\nc"]
PIECES = st.sampled_from(
    ["Anna ", "Köln", " ", ". ", "北京", "Ulm ", "\n\n", "é", "e\u0301", "<|end|> ", "O ", "👩🏽‍🚀", "-"]
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=KINDS)
def setting(request: pytest.FixtureRequest, make_setting: Callable[..., Any]) -> Any:
    return make_setting(request.param)


def check(window: Window, reading: Any, labels: tuple[str, ...]) -> None:
    """A reading is about what its window keeps."""
    assert isinstance(reading, Reading)
    text = window.source.text
    words = segment(text)
    whole = Window(0, window.source, text, 0, words, (0, len(words)), find_borders(text, words))
    first, last = window.kept_span
    starts, ends = {word.start for word in segment(window.source.text)}, len(window.source.text)
    position = first
    for span in reading.spans:
        assert position <= span.start < last
        assert span.start < span.end <= ends
        assert span.start in starts
        assert span.label in labels
        assert 0.0 <= span.probability <= 1.0
        inside = [number for number, word in enumerate(words) if span.start <= word.start < span.end]
        assert whole.allows(inside[0], inside[-1] + 1)
        position = span.end


class TestReadings:
    @pytest.mark.parametrize("seed", range(3))
    def test_spans_are_in_order_and_begin_in_what_the_window_keeps(self, setting: Any, seed: int) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        readings = setting.decoder.decode(Untrained(setting.codec, seed), windows, prompts, routes)
        assert len(windows) > len(TEXTS)
        assert sum(len(each.spans) for each in readings) > 10
        for window, reading in zip(windows, readings, strict=True):
            check(window, reading, setting.config.label_names)

    def test_whatever_the_text(self, setting: Any) -> None:
        @FEW
        @given(st.lists(PIECES, max_size=80).map("".join), st.integers(0, 3))
        def run(text: str, seed: int) -> None:
            windows, prompts, routes = setting.prepared([text])
            readings = setting.decoder.decode(Untrained(setting.codec, seed), windows, prompts, routes)
            for window, reading in zip(windows, readings, strict=True):
                check(window, reading, setting.config.label_names)
            # A span may reach into the next window, which does not repeat it.
            spans = [span for reading in readings for span in reading.spans]
            assert spans == sorted(spans)
            if setting.config.decoder.kind == "tagging":
                assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))

        run()

    def test_the_order_of_the_windows_does_not_matter(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        engine = Untrained(setting.codec)
        expected = setting.decoder.decode(engine, windows, prompts, routes)
        for seed in range(3):
            order = random.Random(seed).sample(range(len(windows)), len(windows))
            found = setting.decoder.decode(
                engine, [windows[i] for i in order], [prompts[i] for i in order], [routes[i] for i in order]
            )
            for i, reading in zip(order, found, strict=True):
                same(reading, expected[i])

    def test_texts_do_not_influence_each_other(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        expected = setting.decoder.decode(Untrained(setting.codec), windows, prompts, routes)
        for number, text in enumerate(TEXTS):
            alone = setting.decoder.decode(Untrained(setting.codec), *setting.prepared([text]))
            together = [each for window, each in zip(windows, expected, strict=True) if window.document == number]
            for first, second in zip(alone, together, strict=True):
                same(first, second)

    def test_an_engine_is_asked_once_a_window(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        engine = Untrained(setting.codec)
        setting.decoder.decode(engine, windows, prompts, routes)
        assert engine.asked == len(windows)
        assert setting.decoder.decode(engine, [], [], []) == []


def same(first: Any, second: Any) -> None:
    assert [span[:3] for span in first.spans] == [span[:3] for span in second.spans]
    assert [span.probability for span in first.spans] == pytest.approx([span.probability for span in second.spans])
    assert first.faults == second.faults


class TestFailures:
    def test_a_request_that_fails_is_a_failure_in_its_place(self, setting: Any) -> None:
        texts = [f"Anna {number} in Köln und Ulm bei Karl May ({number})" for number in range(6)]
        windows, prompts, routes = setting.prepared(texts)
        assert len(windows) == 6
        engine = Untrained(setting.codec)
        expected = setting.decoder.decode(engine, windows, prompts, routes)
        found = setting.decoder.decode(Flaky(engine, {1, 4}), windows, prompts, routes)
        for i, (before, after) in enumerate(zip(expected, found, strict=True)):
            assert after == Failure(f"no {i}") if i in (1, 4) else after == before

    def test_no_span_reaches_over_a_window_that_failed(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared([LONG])
        assert len(windows) > 4
        for seed in range(8):
            engine = Untrained(setting.codec, seed)
            for failed in range(len(windows)):
                found = setting.decoder.decode(Flaky(engine, {failed}), windows, prompts, routes)
                first, last = windows[failed].kept_span
                for window, reading in zip(windows, found, strict=True):
                    if window is windows[failed]:
                        assert isinstance(reading, Failure)
                    else:
                        check(window, reading, setting.config.label_names)
                        if setting.config.decoder.kind == "tagging":
                            assert all(span.end <= first or span.start >= last for span in reading.spans)

    def test_all_of_them_fail(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        found = setting.decoder.decode(
            Flaky(Untrained(setting.codec), set(range(len(windows)))), windows, prompts, routes
        )
        assert found == [Failure(f"no {i}") for i in range(len(windows))]


def names(text: str, seed: int, longest: int = 2) -> list[Entity]:
    """Random entities of up to ``longest`` words, of those that can be."""
    choose, words, found, position = random.Random(seed), segment(text), [], 0
    whole = Window(0, normalise(text), text, 0, words, (0, len(words)), find_borders(text, words))
    while position < len(words):
        last = min(position + choose.randint(1, longest), len(words))
        span = text[words[position].start : words[last - 1].end]
        if choose.random() < 0.4 and whole.allows(position, last):
            found.append(Entity(words[position].start, words[last - 1].end, choose.choice(("PER", "ORG", "LOC")), span))
            position = last
        position += 1
    return found


def expected_of(windows: list[Window], gold: list[Entity]) -> list[tuple[int, int, str]]:
    """The entities of one text that every window which answers for a part of them reads as a whole."""

    def whole(entity: Entity) -> bool:
        return all(
            window.offset <= entity.start and entity.end <= window.offset + len(window.text)
            for window in windows
            if window.kept_span[0] < entity.end and entity.start < window.kept_span[1]
        )

    return [(each.start, each.end, each.label) for each in gold if whole(each)]


class TestTargets:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("words", "overlap"), [(24, 6), (8, 4), (400, 32)])
    def test_what_training_teaches_is_what_decoding_reads(
        self,
        request: pytest.FixtureRequest,
        setting: Any,
        make_setting: Callable[..., Any],
        seed: int,
        words: int,
        overlap: int,
    ) -> None:
        """A model that has learnt the targets of all windows finds the gold entities, wherever windows are cut."""
        setting = make_setting(request.node.callspec.params["setting"], words, overlap)
        gold = [names(normalise(text).text, seed) for text in TEXTS]
        windows, prompts, _ = setting.prepared(TEXTS)
        targets = setting.targets(windows, prompts, gold)
        found = setting.entities(Oracle(setting.codec, targets), TEXTS)
        for number, own in enumerate(gold):
            mine = [window for window in windows if window.document == number]
            expected = expected_of(mine, own)
            assert found[number] == expected
            if overlap >= 4:  # an entity of two words is in the words that both windows read
                assert len(expected) == len(own)
        assert sum(map(len, gold)) > 50

    def test_windows_of_a_long_text_give_what_one_window_gives(self, make_setting: Callable[..., Any]) -> None:
        for kind in KINDS:
            cut, whole = make_setting(kind, 24, 6), make_setting(kind, 400, 32)
            texts = [LONG, STORY]
            gold = [names(normalise(text).text, 9) for text in texts]
            found = []
            for setting in (cut, whole):
                windows, prompts, _ = setting.prepared(texts)
                found.append(setting.entities(Oracle(setting.codec, setting.targets(windows, prompts, gold)), texts))
            assert found[0] == found[1] == [[(e.start, e.end, e.label) for e in own] for own in gold]

    @pytest.mark.parametrize("seed", range(3))
    def test_long_entities_that_windows_cut_teach_nothing_false(
        self, request: pytest.FixtureRequest, setting: Any, make_setting: Callable[..., Any], seed: int
    ) -> None:
        setting = make_setting(request.node.callspec.params["setting"], 10, 4)
        gold = names(normalise(LONG).text, seed, longest=14)
        windows, prompts, _ = setting.prepared([LONG])
        targets = setting.targets(windows, prompts, [gold])
        [found] = setting.entities(Oracle(setting.codec, targets), [LONG])
        expected = expected_of(windows, gold)
        assert 0 < len(expected) < len(gold)
        assert set(expected) <= set(found)
        if setting.config.decoder.kind == "generation":
            assert set(found) <= {(each.start, each.end, each.label) for each in gold}

    def test_positions_and_words_are_inside_of_the_row(self, setting: Any) -> None:
        gold = [names(normalise(text).text, 1) for text in TEXTS]
        windows, prompts, _ = setting.prepared(TEXTS)
        for window, target in zip(windows, setting.targets(windows, prompts, gold), strict=True):
            assert len(target.positions) == len(target.labels)
            assert all(0 <= at < len(target.ids) for at in target.positions)
            assert target.positions == sorted(set(target.positions))
            choices = len(setting.decoder.candidates or range(360))
            assert all(0 <= label < choices for label in target.labels)
            assert len(target.words) <= len(window.words)
            position = 0
            for first, last in target.words:
                assert position <= first <= last < len(target.ids)
                position = last + 1

    def test_training_shows_what_inference_asks(self, setting: Any) -> None:
        windows, prompts, routes = setting.prepared(TEXTS)
        recorder = Recorder(setting.codec)
        setting.decoder.decode(recorder, windows, prompts, routes)
        for request, target in zip(
            recorder.requests, setting.targets(windows, prompts, [[]] * len(TEXTS)), strict=True
        ):
            assert target.ids[: len(request.ids)] == list(request.ids)

    def test_a_label_that_the_model_does_not_have(self, setting: Any) -> None:
        windows, prompts, _ = setting.prepared(["Anna in Köln"])
        for label in ("CITY", "O", "per"):
            with pytest.raises(InputError, match=f"expected one of the labels PER, ORG, LOC, got '{label}'"):
                setting.decoder.target(windows[0], prompts[0], [Entity(0, 4, label, "Anna")])


def test_gold_of_a_window() -> None:
    window = Window(0, None, "Meier in Köln", 5, segment("Meier in Köln"), (0, 3))  # type: ignore[arg-type]
    entities = [Entity(0, 5, "A"), Entity(0, 6, "B"), Entity(9, 11, "C"), Entity(14, 30, "D"), Entity(18, 20, "E")]
    assert [each.label for each in gold_of(window, entities)] == ["B", "C", "D"]
    assert gold_of(replace(window, offset=100), entities) == []
