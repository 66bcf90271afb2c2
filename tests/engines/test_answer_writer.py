"""Written answers against plain, uncached greedy decoding and transformers' own; each independent of its batch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from retrieveall.answers import parse_answer
from retrieveall.engines import WriteRequest
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.errors import ConfigError, ModelFolderError
from tiny import requests_of

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


def writer_of(model: RetrieveAll, constrained: bool = True) -> Any:
    engine: Any = model.engine
    return engine.writer(model.labels, model.config.decoder.spacing, constrained)


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
        requests = requests_of(found, [text for text in mixed_texts if len(text) < 60], ROUTES)
        together = found.engine.write(requests)
        assert sum(len(each.lines) for each in together if each.answer) > 5
        order = random.Random(3).sample(range(len(requests)), len(requests))
        for rows in (1, 5):
            monkeypatch.setattr("retrieveall.engines.local.writer._ROWS", rows)
            again = found.engine.write([requests[i] for i in order])
            for i, written in zip(order, again, strict=True):
                assert written.answer == together[i].answer
                assert written.lines == pytest.approx(together[i].lines, rel=1e-3, abs=1e-5)

    def test_requests_of_several_kinds(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        """Labels, grammar and length are those of each request, whatever stands beside it."""
        changes: list[dict[str, Any]] = [{}, {"constrained": False}, {"labels": ("LOC", "X")}, {"max_tokens": 9}]
        requests = [
            replace(each, **changes[number % 4])
            for number, each in enumerate(requests_of(model, [t for t in mixed_texts if len(t) < 60], ROUTES))
        ]
        for request, written in zip(requests, model.engine.write(requests), strict=True):
            [alone] = model.engine.write([request])
            assert written.answer == alone.answer
            assert (written.tokens, written.ended, written.constrained) == (
                alone.tokens,
                alone.ended,
                request.constrained,
            )
            assert written.tokens <= request.max_tokens
            if request.constrained:
                parsed = parse_answer(written.answer, request.text, request.labels)
                assert (parsed.malformed, parsed.invented, parsed.unknown) == (0, 0, 0)

    def test_adapters_matter(self, model: RetrieveAll) -> None:
        text = "Karl May und Anna Meier in London, New York und Köln mit Ada Lovelace von Siemens"
        [request] = requests_of(model, [text])
        seen = [model.engine.write([replace(request, adapters=route)])[0] for route in ROUTES]
        assert len({(written.answer, written.lines) for written in seen}) == len(ROUTES)

    def test_no_requests(self, model: RetrieveAll) -> None:
        assert model.engine.write([]) == []


def written_plainly(writer: Any, codec: Any, backbone: Any, question: WriteRequest) -> tuple[list[int], list[float]]:
    """The independent reference: one row, no cache, no padding, one token a pass, forced ones included."""
    state = writer._grammar.start(question.text)
    tokens: list[int] = []
    steps: list[float] = []
    breaks, ends = codec.plain("\n"), list(writer._ends)
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
    folder, codec, writer = found.folder.path, found.engine.codec, writer_of(found)
    bare = AutoModelForCausalLM.from_pretrained(folder / "backbone")
    adapted = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "backbone"), folder / "adapters" / "zh"
    )
    requests = requests_of(found, [text for text in mixed_texts if len(text) < 60][:8], [{}, {"zh": 1.0}])
    several = 0
    for question, written in zip(requests, found.engine.write(requests), strict=True):
        tokens, lines = written_plainly(writer, codec, adapted if question.adapters else bare, question)
        assert written.tokens == len(tokens)
        assert written.answer == codec.decode(tokens[:-1])
        assert written.ended
        assert list(written.lines) == pytest.approx(lines, abs=2e-3)
        several += len(lines) > 1
    assert several


def test_forced_tokens_cost_no_pass(model: RetrieveAll) -> None:
    writer = writer_of(model)
    requests = requests_of(model, ["x " + "Donaudampfschifffahrtsgesellschaft" * 3], [{}])
    before = writer.passes
    [written] = model.engine.write(requests)
    assert "Donau" in written.answer
    assert written.tokens > 2 * (writer.passes - before)


def test_unconstrained_is_what_transformers_generates(natural: RetrieveAll, mixed_texts: list[str]) -> None:
    from transformers import AutoModelForCausalLM

    codec = natural.engine.codec
    bare = AutoModelForCausalLM.from_pretrained(natural.folder.path / "backbone")
    requests = [replace(each, constrained=False, max_tokens=24) for each in requests_of(natural, mixed_texts[:6], [{}])]
    for question, found in zip(requests, natural.engine.write(requests), strict=True):
        ids = torch.tensor([question.ids])
        out = bare.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        tokens = out[0, ids.shape[1] :].tolist()
        ended = tokens[-1] == codec.end
        text = codec.decode(tokens[:-1] if ended else tokens)
        assert found.answer == (text if ended else text[: max(text.rfind("\n"), 0)])
        assert (found.ended, found.constrained) == (ended, False)


def test_an_answer_that_is_too_long_keeps_its_whole_lines(model: RetrieveAll) -> None:
    texts = [f"Anna {number} Meier, Karl May und Köln in Ulm ({number})" for number in range(20)]
    requests = requests_of(model, texts, "de")
    answers = model.engine.write(requests)
    whole, request = max(zip(answers, requests, strict=True), key=lambda pair: pair[0].answer.count("\n"))
    assert whole.answer.count("\n") > 1
    lengths = set()
    for room in (8, 13, 20, 31):
        [cut] = model.engine.write([replace(request, max_tokens=room)])
        assert cut.tokens <= room
        lines = cut.answer.split("\n") if cut.answer else []
        assert whole.answer.split("\n")[: len(lines)] == lines
        assert list(cut.lines[: len(lines)]) == pytest.approx(whole.lines[: len(lines)], abs=1e-4)
        lengths.add(len(lines))
    assert len(lengths) > 1


class TestRefusals:
    def test_no_room_for_the_answer(self, model: RetrieveAll) -> None:
        decoder = model.config.decoder.model_copy(update={"max_answer_tokens": 2000})
        config = model.config.model_copy(update={"decoder": decoder})
        with pytest.raises(ConfigError, match="max_answer_tokens is 2000, the backbone reads at most 2048"):
            LocalEngine.open(config, model.folder.path, device="cpu")

    @pytest.mark.parametrize("constrained", [True, False])
    def test_no_end_token(self, model: RetrieveAll, monkeypatch: pytest.MonkeyPatch, constrained: bool) -> None:
        [request] = requests_of(model, ["Ulm"])
        engine = LocalEngine.open(model.config, model.folder.path, device="cpu")
        monkeypatch.setattr(engine.codec, "end", None)
        with pytest.raises(ConfigError, match="end token"):
            engine.write([replace(request, constrained=constrained)])

    def test_numbers_that_are_not_finite(self, model: RetrieveAll) -> None:
        requests = requests_of(model, ["Ulm und Köln"])
        engine = LocalEngine.open(model.config, model.folder.path, device="cpu")
        with torch.no_grad():
            engine.model.get_input_embeddings().weight.fill_(float("nan"))
        with pytest.raises(ModelFolderError, match="NaN"):
            engine.write(requests)


def test_masks_are_unpacked_bit_by_bit(model: RetrieveAll) -> None:
    writer = writer_of(model)
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
