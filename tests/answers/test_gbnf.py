"""The grammar that servers are told, run by llguidance as vLLM's "guidance" backend runs it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from retrieveall.answers import parse_answer, write_answer
from retrieveall.answers.gbnf import answer_gbnf
from retrieveall.types import Entity

llguidance = pytest.importorskip("llguidance")

LABELS = ("PER", "ORG", "LOC")
TEXTS = [
    "Anna Meier und Anna Meier in Köln.",
    "the the the",
    '"Rock \\ Roll" (live) | ::= <x> root {y}',
    "李白在北京大学 👩\u200d🚀 é e\u0301",
    "a\tb\nc\x00d \u200f\u202e שלום",
    "<|end|> <|tag0|>\nPER Nobody",
    "x",
    "",
    " \n ",
]


@pytest.fixture(scope="module")
def tokens(tiny_tokenizer: Any) -> Any:
    return llguidance.LLTokenizer(tiny_tokenizer.backend_tokenizer.to_str(), eos_token=1)


def _matcher(tokens: Any, text: str, spacing: Any = "as_is") -> Any:
    grammar = llguidance.grammar_from("grammar", answer_gbnf(text, LABELS, spacing))
    matcher = llguidance.LLMatcher(tokens, grammar)
    assert not matcher.get_error()
    return matcher


def _takes(tokens: Any, text: str, answer: str, spacing: Any = "as_is") -> bool:
    matcher = _matcher(tokens, text, spacing)
    ids = tokens.tokenize_bytes(answer.encode())
    return bool(matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting())


@pytest.mark.parametrize("spacing", ["as_is", "always"])
@pytest.mark.parametrize("text", TEXTS)
def test_gold_answers_are_allowed(tokens: Any, text: str, spacing: Any) -> None:
    from retrieveall.data import segment

    words, choose = segment(text), random.Random(text)
    for _ in range(5):
        entities, position = [], 0
        while words and position < len(words) and choose.random() < 0.7:
            first = choose.randrange(position, len(words))
            last = choose.randrange(first, min(first + 3, len(words)))
            start, end = words[first].start, words[last].end
            entities.append(Entity(start, end, choose.choice(LABELS), text[start:end]))
            position = last + 1
        assert _takes(tokens, text, write_answer(text, entities, spacing), spacing)


@pytest.mark.parametrize("text", TEXTS)
def test_whatever_is_allowed_is_true_to_the_text(tokens: Any, text: str) -> None:
    choose, lines = random.Random(text), 0
    for _ in range(4):
        matcher, written = _matcher(tokens, text), []
        for _step in range(200):
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            allowed = [int(i) for i in np.flatnonzero(bits)]
            longer = [token for token in allowed if token != 1] or allowed
            token = choose.choice(longer if choose.random() < 0.8 else allowed)
            if token == 1:
                break
            written.append(token)
            matcher.consume_token(token)
        else:
            pytest.fail("no end in 200 tokens")
        answer = tokens.decode_bytes(written).decode()
        parsed = parse_answer(answer, text, LABELS)
        assert (parsed.malformed, parsed.invented, parsed.unknown) == (0, 0, 0), answer
        lines += answer.count("\n") + bool(answer)
    assert lines or not text.strip()


@pytest.mark.parametrize(
    "answer",
    [
        "PER Nobody",
        "CITY Köln",
        "PER Anna\nPER Anna\nPER Anna",
        "LOC Köln\nPER Anna",
        "PER Ann",
        "PER Anna Anna",
        "PER",
        "PER Anna\n",
        " ",
    ],
)
def test_what_is_not_allowed(tokens: Any, answer: str) -> None:
    assert _takes(tokens, TEXTS[0], "PER Anna\nPER Anna Meier\nLOC Köln")
    assert not _takes(tokens, TEXTS[0], answer)


def test_the_size_grows_with_the_text() -> None:
    one, two = (len(answer_gbnf("word " * count, LABELS)) for count in (100, 1000))
    assert two < 12 * one
