"""The generation decoder: targets of windows that cut entities, probabilities and faults of lines, and predictions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall import AnswerFaults, RetrieveAll
from retrieveall.data import normalise, segment
from retrieveall.decoders import complete_config, make_decoder
from retrieveall.engines import WriteRequest, Written
from retrieveall.errors import ConfigError, InputError
from retrieveall.prompts import Prompt
from retrieveall.stages import Window
from retrieveall.types import Entity, Route
from tiny import codec_of, prepared

TEXT = "Ada Lovelace met Karl May in New York today ."
EMPTY = Prompt((), ())


class Saying:
    """An engine that writes these answers."""

    def __init__(self, *answers: Written) -> None:
        self.answers = answers

    def write(self, requests: Sequence[WriteRequest]) -> list[Any]:
        return list(self.answers)


@pytest.fixture
def setting(make_setting: Callable[..., Any]) -> Any:
    return make_setting("generation")


def window_of(text: str, start: int, end: int, keep: tuple[int, int]) -> Window:
    """The words ``start`` to ``end`` of a text, of which the window keeps ``keep``, counted in the text."""
    words = segment(text)[start:end]
    offset = words[0].start
    return Window(0, normalise(text), text[offset : words[-1].end], offset, words, (keep[0] - start, keep[1] - start))


def read(setting: Any, text: str, *answers: Written, windows: Sequence[Window] = ()) -> list[Any]:
    windows = windows or [window_of(text, 0, len(segment(text)), (0, len(segment(text))))]
    found: list[Any] = setting.decoder.decode(
        Saying(*answers), windows, [EMPTY] * len(windows), [Route()] * len(windows)
    )
    return found


class TestTargets:
    GOLD = tuple(
        Entity(TEXT.index(name), TEXT.index(name) + len(name), label, name)
        for name, label in (("Ada Lovelace", "PER"), ("Karl May", "PER"), ("New York", "LOC"))
    )

    def answer(self, setting: Any, window: Window, gold: Sequence[Entity] = GOLD) -> str:
        target = setting.decoder.target(window, EMPTY, gold)
        assert target.ids[target.positions[0] + 1 :] == target.labels
        assert target.labels[-1] == setting.codec.end
        return str(setting.codec.decode(target.labels[:-1]))

    def test_a_whole_text(self, setting: Any) -> None:
        assert self.answer(setting, window_of(TEXT, 0, 10, (0, 10))) == "PER Ada Lovelace\nPER Karl May\nLOC New York"
        assert self.answer(setting, window_of(TEXT, 0, 10, (0, 10)), ()) == ""

    def test_entities_that_are_only_read_are_written(self, setting: Any) -> None:
        """As the model will: what a window keeps is decided afterwards."""
        assert self.answer(setting, window_of(TEXT, 0, 10, (2, 3))) == "PER Ada Lovelace\nPER Karl May\nLOC New York"

    def test_an_entity_that_the_window_cuts_is_not_written(self, setting: Any) -> None:
        assert self.answer(setting, window_of(TEXT, 1, 7, (1, 7))) == "PER Karl May"
        assert self.answer(setting, window_of(TEXT, 1, 2, (1, 2))) == ""

    def test_names_are_never_hidden(self, setting: Any) -> None:
        window = window_of(TEXT, 1, 7, (1, 7))
        target = setting.decoder.target(window, EMPTY, self.GOLD)
        hideable = [setting.codec.decode(target.ids[first : last + 1]).strip() for first, last in target.words]
        assert hideable == ["met", "in"]


class TestReading:
    def test_probabilities_belong_to_lines(self, setting: Any) -> None:
        text = "Ulm, Ulm: Anna"
        written = Written("O Ulm\nLOC Ulm\nPER Anna", (math.log(0.9), math.log(0.5), math.log(0.25)))
        [found] = read(setting, text, written)
        assert [span[:3] for span in found.spans] == [(5, 8, "LOC"), (10, 14, "PER")]
        assert [span.probability for span in found.spans] == pytest.approx([0.5, 0.25])

    def test_a_line_without_a_probability_has_none(self, setting: Any) -> None:
        [found] = read(setting, "Ulm Anna", Written("LOC Ulm\nPER Anna", (-1e9,)))
        assert [span.probability for span in found.spans] == pytest.approx([math.exp(-50), 0.0])

    def test_an_answer_without_an_end(self, setting: Any) -> None:
        """A fault of one that nothing limits; under the grammar the limit of tokens only cuts it off."""
        written = Written("LOC Ulm", (-0.1, -0.2), ended=False)
        assert read(setting, "Ulm", written)[0].faults == AnswerFaults()
        assert read(setting, "Ulm", replace(written, constrained=False))[0].faults == AnswerFaults(1)
        assert read(setting, "Ulm", replace(written, constrained=False, ended=True))[0].faults == AnswerFaults()

    def test_faults(self, setting: Any) -> None:
        written = Written("PER\nPER Nobody\nXYZ Ulm\nLOC Ulm\nLOC Ulm", (-1.0,) * 5, constrained=False)
        [found] = read(setting, "Ulm und Ulm", written)
        assert found.faults == AnswerFaults(1, 2, 1)
        assert [span[:3] for span in found.spans] == [(8, 11, "LOC")]

    def test_spans_count_where_the_window_keeps_their_first_word(self, setting: Any) -> None:
        text = "a b c d e f"  # word w begins at character 2w
        windows = [window_of(text, 0, 4, (0, 3)), window_of(text, 2, 6, (3, 6))]
        answers = Written("PER a\nORG c d\nLOC d", (-0.1,) * 3), Written("PER c\nORG d e\nLOC e f", (-0.1,) * 3)
        first, second = read(setting, text, *answers, windows=windows)
        assert [span[:3] for span in first.spans] == [(0, 1, "PER"), (4, 7, "ORG")]
        assert [span[:3] for span in second.spans] == [(6, 9, "ORG")]


class TestRefusals:
    def test_no_end_token(self, setting: Any, tiny_tokenizer: Any) -> None:
        codec = codec_of(tiny_tokenizer)
        codec.end = None
        for make in (make_decoder, complete_config):
            with pytest.raises(ConfigError, match="expected a tokenizer with an end token"):
                make(setting.config, codec)

    def test_only_writing_can_be_constrained(self, loaded: RetrieveAll) -> None:
        assert loaded.predict(["Anna"])[0].faults is None
        with pytest.raises(InputError, match="this one is a tagging model"):
            RetrieveAll.from_pretrained(loaded.folder.path, constrained=False)


@pytest.fixture(scope="module")
def model(tiny_generating_model: Path) -> RetrieveAll:
    return RetrieveAll.from_pretrained(tiny_generating_model, device="cpu")


@pytest.fixture(scope="module")
def natural(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RetrieveAll:
    """Qwen2, the template answer.v1 and the spaces of the text."""
    folder = build_model(
        tmp_path_factory.mktemp("natural"), decoder="generation", attention="repeat", architecture="qwen2", seed=2
    )
    return RetrieveAll.from_pretrained(folder, device="cpu")


class TestPredictions:
    @pytest.mark.parametrize("fixture", ["model", "natural"])
    def test_entities_are_stretches_of_the_text_in_order(
        self, request: pytest.FixtureRequest, fixture: str, mixed_texts: list[str]
    ) -> None:
        found: RetrieveAll = request.getfixturevalue(fixture)
        texts = [
            *mixed_texts,
            "<|end|> <|tag0|>\nPER Anna\n",
            "Anna\u200b  Meier\tin\r\nKöln",
            "",
            " ",
            "👩🏽‍🚀 北京 \u0301",
        ]
        predictions = found.predict(texts)
        assert sum(len(each.entities) for each in predictions) > 10
        for text, each in zip(texts, predictions, strict=True):
            position = 0
            for entity in each.entities:
                assert position <= entity.start < entity.end <= len(text)
                assert entity.text == text[entity.start : entity.end]
                assert entity.label in found.labels
                assert 0 < (entity.score or 0) <= 1
                position = entity.end
        assert predictions[-3].entities == predictions[-2].entities == ()

    def test_free_answers_say_what_is_wrong_with_them(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        texts = [text for text in mixed_texts if len(text) < 60]  # of one window
        assert {each.faults for each in model.predict(texts)} == {AnswerFaults()}
        free = RetrieveAll.from_pretrained(model.folder.path, device="cpu", constrained=False)
        found = free.predict(texts)
        readings = free.decoder.decode(free.engine, *prepared(free, texts))  # a random model writes nothing sensible
        assert [each.faults for each in found] == [each.faults for each in readings]
        assert sum(each.faults.malformed + each.faults.invented + each.faults.unknown for each in found) > 5
        assert model.config.decoder.constrained

    def test_nothing_is_deprecated(self, model: RetrieveAll) -> None:
        """transformers renames arguments, and warns every user of a command on standard error."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            model.predict(["Anna Meier in Köln"])

    def test_filters(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        everything = model.predict(mixed_texts)
        for found, whole in zip(model.predict(mixed_texts, labels=["PER"], threshold=0.3), everything, strict=True):
            kept = [each for each in whole.entities if each.label == "PER" and (each.score or 0) >= 0.3]
            assert [(e.start, e.end) for e in found.entities] == [(e.start, e.end) for e in kept]

    def test_a_long_text_is_read_as_its_windows_are(self, model: RetrieveAll) -> None:
        text = "Anna Meier war mit Karl May in Köln und Ulm " * 12
        [whole] = model.predict([text], language="de")
        readings = model.decoder.decode(model.engine, *prepared(model, [text], "de"))
        assert len(readings) > 3
        allowed = {span[:3] for reading in readings for span in reading.spans}
        assert whole.entities
        assert {(each.start, each.end, each.label) for each in whole.entities} <= allowed
