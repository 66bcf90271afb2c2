"""Generation against plain, uncached greedy decoding and transformers' own, and the independence of each answer."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from retrieveall.data import segment
from retrieveall.decoding import Window, merge_spans, parse_answer
from retrieveall.engines import GenerateRequest, TagRequest
from retrieveall.engines.answering import Written, read_answer
from retrieveall.engines.encoding import TokenCodec, encode_question
from retrieveall.engines.generation import Question
from retrieveall.engines.transformers import TransformersEngine
from retrieveall.errors import ConfigError, InputError, ModelFolderError

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

ROUTES: list[dict[str, float]] = [{"de": 1.0}, {"en": 1.0}, {"zh": 1.0}, {"de": 0.6, "zh": 0.4}, {}]


@pytest.fixture(scope="module")
def model(tiny_generating_model: Path) -> RetrieveAll:
    from retrieveall import RetrieveAll

    return RetrieveAll.from_pretrained(tiny_generating_model, device="cpu")


@pytest.fixture(scope="module")
def natural(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RetrieveAll:
    """Qwen2, the template answer.v1 and the spaces of the text."""
    from retrieveall import RetrieveAll

    folder = build_model(
        tmp_path_factory.mktemp("natural"), decoder="generation", attention="repeat", architecture="qwen2", seed=2
    )
    return RetrieveAll.from_pretrained(folder, device="cpu")


def reopened(model: RetrieveAll, **decoder: Any) -> TransformersEngine:
    """The engine of a model with other settings of the decoder."""
    config = model.config.model_copy(update={"decoder": model.config.decoder.model_copy(update=decoder)})
    return TransformersEngine(config, model.folder.path, device="cpu")


def requests_of(model: RetrieveAll, texts: Sequence[str]) -> list[GenerateRequest]:
    """A request of each text as the pipeline makes it, the routes in turn."""
    found = model.retrieve(texts)
    return [
        GenerateRequest(model.build_prompt(text, knowledge), text, segment(text), ROUTES[number % len(ROUTES)])
        for number, (text, knowledge) in enumerate(zip(texts, found, strict=True))
    ]


def plain(answers: Sequence[Any]) -> list[Any]:
    return [[span[:3] for span in answer.spans] for answer in answers]


class TestIndependenceOfTheBatch:
    @pytest.mark.parametrize("fixture", ["model", "natural"])
    def test_order_and_splits_do_not_matter(
        self,
        request: pytest.FixtureRequest,
        fixture: str,
        mixed_texts: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        found: RetrieveAll = request.getfixturevalue(fixture)
        requests = requests_of(found, [text for text in mixed_texts if len(text) < 60])
        together = found.engine.generate(requests)
        assert sum(len(answer.spans) for answer in together) > 5
        order = random.Random(3).sample(range(len(requests)), len(requests))
        for rows in (1, 5):
            monkeypatch.setattr("retrieveall.engines.generation._ROWS", rows)
            again = found.engine.generate([requests[i] for i in order])
            for i, answer in zip(order, again, strict=True):
                assert answer.answer == together[i].answer
                assert plain([answer]) == plain([together[i]])
                for span, expected in zip(answer.spans, together[i].spans, strict=True):
                    assert span[3] == pytest.approx(expected[3], rel=1e-3)

    def test_adapters_matter(self, model: RetrieveAll) -> None:
        text = "Karl May und Anna Meier in London, New York und Köln mit Ada Lovelace von Siemens"
        [request] = requests_of(model, [text])
        seen = [model.engine.generate([replace(request, adapters=route)])[0] for route in ROUTES]
        assert len({(answer.answer, tuple(answer.spans)) for answer in seen}) == len(ROUTES)


def written_plainly(engine: Any, backbone: Any, question: Question) -> tuple[list[int], list[float]]:
    """The independent reference: one row, no cache, no padding, one token a pass, forced ones included."""
    state = engine.writer._grammar.start(question.text)
    tokens: list[int] = []
    steps: list[float] = []
    breaks, ends = engine.codec.plain("\n"), list(engine.writer._ends)
    lines = [0.0]
    while not state.finished:
        forced = state.forced()
        if forced:
            state.advance(forced)
            tokens += forced
            continue
        with torch.no_grad():
            logits = backbone(torch.tensor([[*question.ids, *tokens]])).logits[0, -1].double()
        mask = state.mask()
        allowed = [t for t in range(len(logits)) if mask[t // 32] >> (t % 32) & 1]
        scores = torch.full_like(logits, -torch.inf)
        scores[allowed] = logits[allowed]
        chances = scores.softmax(0)
        best = int(chances.argmax())
        over = float(chances[[*breaks, *ends]].sum())
        if best in ends:
            lines[-1] += math.log(over)
        elif best in breaks:
            lines[-1] += math.log(over)
            lines.append(math.log(float(chances[best]) / over))
        else:
            lines[-1] += math.log(float(chances[best]))
        steps.append(float(chances[best]))
        tokens.append(best)
        state.advance([best])
    return tokens, lines


@pytest.mark.parametrize("fixture", ["model", "natural"])
def test_answers_are_those_of_plain_greedy_decoding(
    request: pytest.FixtureRequest, fixture: str, mixed_texts: list[str]
) -> None:
    """With PEFT's own adapter for half of the rows."""
    import peft
    from transformers import AutoModelForCausalLM

    found: RetrieveAll = request.getfixturevalue(fixture)
    engine: Any = found.engine
    folder = found.folder.path
    bare = AutoModelForCausalLM.from_pretrained(folder / "backbone")
    adapted = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "backbone"), folder / "adapters" / "zh"
    )
    texts = [text for text in mixed_texts if len(text) < 60][:8]
    knowledge = found.retrieve(texts)
    questions = [
        Question(
            encode_question(engine.codec, found.build_prompt(text, known), segment(text)).ids,
            text,
            {"zh": 1.0} if number % 2 else {},
        )
        for number, (text, known) in enumerate(zip(texts, knowledge, strict=True))
    ]
    several = 0
    for question, written in zip(questions, engine.writer.write(questions), strict=True):
        tokens, lines = written_plainly(engine, adapted if question.adapters else bare, question)
        assert written.tokens == len(tokens)
        assert written.answer == engine.codec.decode(tokens[:-1])
        assert written.ended
        assert list(written.lines) == pytest.approx(lines, abs=2e-3)
        several += len(lines) > 1
    assert several


def test_forced_tokens_cost_no_pass(model: RetrieveAll) -> None:
    engine: Any = model.engine
    text = "x " + "Donaudampfschifffahrtsgesellschaft" * 3
    [request] = requests_of(model, [text])
    before = engine.writer.passes
    [written] = engine.writer.write(
        [Question(encode_question(engine.codec, request.prompt, request.words).ids, text, {})]
    )
    assert "Donau" in written.answer
    assert written.tokens > 2 * (engine.writer.passes - before)


def test_unconstrained_is_what_transformers_generates(natural: RetrieveAll, mixed_texts: list[str]) -> None:
    from transformers import AutoModelForCausalLM

    engine = reopened(natural, constrained=False, max_answer_tokens=24)
    bare = AutoModelForCausalLM.from_pretrained(natural.folder.path / "backbone")
    requests = [replace(each, adapters={}) for each in requests_of(natural, mixed_texts[:6])]
    faults = 0
    for request, found in zip(requests, engine.generate(requests), strict=True):
        ids = torch.tensor([encode_question(engine.codec, request.prompt, request.words).ids])
        out = bare.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        tokens = out[0, ids.shape[1] :].tolist()
        ended = tokens[-1] == engine.codec.end
        text = engine.codec.decode(tokens[:-1] if ended else tokens)
        assert found.answer == (text if ended else text[: max(text.rfind("\n"), 0)])
        faults += found.malformed + found.invented + found.unknown
    assert faults, "an untrained model does not write answers"


def test_an_answer_that_is_too_long_keeps_its_whole_lines(model: RetrieveAll) -> None:
    texts = [f"Anna {number} Meier, Karl May und Köln in Ulm ({number})" for number in range(20)]
    requests = [replace(each, adapters={"de": 1.0}) for each in requests_of(model, texts)]
    answers = model.engine.generate(requests)
    whole, request = max(zip(answers, requests, strict=True), key=lambda pair: pair[0].answer.count("\n"))
    text = request.text
    assert whole.answer.count("\n") > 1
    lengths = set()
    for room in (8, 13, 20, 31):
        [cut] = reopened(model, max_answer_tokens=room).generate([request])
        lines = cut.answer.split("\n") if cut.answer else []
        assert whole.answer.split("\n")[: len(lines)] == lines
        assert (cut.malformed, cut.invented, cut.unknown) == (0, 0, 0)
        parsed = parse_answer(cut.answer, text, model.labels)
        assert [span[:3] for span in cut.spans] == list(parsed.spans)
        lengths.add(len(lines))
    assert len(lengths) > 1


def test_probabilities_belong_to_lines() -> None:
    written = Written("O Ulm\nLOC Ulm\nPER Anna", (math.log(0.9), math.log(0.5), math.log(0.25)))
    found = read_answer(written, "Ulm, Ulm: Anna", ("LOC", "PER"))
    assert [span[:3] for span in found.spans] == [(5, 8, "LOC"), (10, 14, "PER")]
    assert [span[3] for span in found.spans] == pytest.approx([0.5, 0.25])
    cut = replace(written, ended=False)
    assert read_answer(cut, "Ulm, Ulm: Anna", ("LOC", "PER")).malformed == 0
    assert read_answer(cut, "Ulm, Ulm: Anna", ("LOC", "PER"), constrained=False).malformed == 1


class TestRefusals:
    def test_a_model_does_one_thing(self, model: RetrieveAll, loaded: RetrieveAll) -> None:
        [request] = requests_of(model, ["Ulm"])
        with pytest.raises(InputError, match="call generate"):
            model.engine.tag([TagRequest(request.prompt, request.words, {})])
        with pytest.raises(InputError, match="call tag"):
            loaded.engine.generate([request])
        with pytest.raises(InputError, match="call predict"):
            model.scores(["Ulm"])

    def test_no_room_for_the_answer(self, model: RetrieveAll) -> None:
        with pytest.raises(ConfigError, match="max_answer_tokens is 2000, the backbone reads at most 2048"):
            reopened(model, max_answer_tokens=2000)

    def test_no_end_token(self, model: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("retrieveall.engines.transformers.TokenCodec", _Endless)
        with pytest.raises(ConfigError, match="end token"):
            reopened(model)

    def test_numbers_that_are_not_finite(self, model: RetrieveAll) -> None:
        engine = reopened(model)
        with torch.no_grad():
            engine.model.get_input_embeddings().weight.fill_(float("nan"))
        with pytest.raises(ModelFolderError, match="NaN"):
            engine.generate(requests_of(model, ["Ulm und Köln"]))


class _Endless(TokenCodec):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.end = None


class TestPipeline:
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
        from retrieveall import AnswerFaults, RetrieveAll

        short = [text for text in mixed_texts if len(text) < 60]  # of one window
        texts = [*short, ""]
        assert {each.faults for each in model.predict(texts)} == {AnswerFaults()}
        free = RetrieveAll.from_pretrained(model.folder.path, device="cpu", constrained=False)
        found = free.predict(texts)
        answers = free.engine.generate(  # a random model writes nothing sensible
            [
                GenerateRequest(free._prompt(part), part.text, part.words, part.route.adapters)
                for (part,) in free._cut(short, [None] * len(short))
            ]
        )
        told = [AnswerFaults(each.malformed, each.invented, each.unknown) for each in answers]
        assert [each.faults for each in found] == [*told, AnswerFaults()]
        assert sum(each.malformed + each.invented + each.unknown for each in told) > 5
        assert model.config.decoder.constrained

    def test_only_writing_can_be_constrained(self, model: RetrieveAll, loaded: RetrieveAll) -> None:
        assert loaded.predict(["Anna"])[0].faults is None
        with pytest.raises(InputError, match="this one tags words"):
            type(loaded).from_pretrained(loaded.folder.path, constrained=False)

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
        parts = model._cut([text], ["de"])[0]
        assert len(parts) > 3
        answers = model.engine.generate(
            [GenerateRequest(model._prompt(part), part.text, part.words, {"de": 1.0}) for part in parts]
        )
        allowed = {
            (start + part.offset, end + part.offset, label)
            for part, answer in zip(parts, answers, strict=True)
            for start, end, label, _ in answer.spans
        }
        assert whole.entities
        assert {(each.start, each.end, each.label) for each in whole.entities} <= allowed


def test_spans_count_where_the_window_keeps_their_first_word() -> None:
    words = segment("a b c d e f")  # word w begins at character 2w
    windows = [Window(0, 4, 0, 3), Window(2, 6, 3, 6)]
    first = [(0, 1, "A", 0.9), (4, 7, "B", 0.8), (6, 7, "C", 0.7)]
    second = [(4, 5, "D", 0.6), (6, 9, "E", 0.5), (8, 11, "F", 0.4)]
    assert merge_spans(windows, words, [first, second]) == [first[0], first[1], second[2]]
    assert merge_spans(windows, words, [first[:1], second]) == [first[0], second[1]]
    assert merge_spans([], [], []) == []


def test_masks_are_unpacked_bit_by_bit(model: RetrieveAll) -> None:
    writer: Any = model.engine.writer
    state = writer._grammar.start("Anna in Köln")

    class Row:
        def __init__(self, state: Any) -> None:
            self.state = state

    allowed = writer._allowed([Row(state), Row(None)], 360, torch.device("cpu"))
    mask = state.mask()
    expected = [bool(mask[t // 32] >> (t % 32) & 1) for t in range(360)]
    assert allowed[0].tolist() == expected
    assert 1 < sum(expected) < 300
    assert np.flatnonzero(allowed[1].numpy()).tolist() == [1]
