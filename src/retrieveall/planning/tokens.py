"""Tokens of the rows that a corpus becomes: the prompt with its knowledge, the text, and its repeat or answer.

The prompts are those of the real builder, with what retrieval will roughly find: other sentences of the language, and
the sentence's own mentions. Tokens are counted by the backbone's tokenizer where it lies on this machine; else
estimated word by word from the scripts of its letters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from retrieveall.config import ModelConfig
from retrieveall.data import segment
from retrieveall.prompts import Piece, PromptBuilder, load_template
from retrieveall.types import Knowledge, KnownEntity, Neighbour, Sentence, Word

__all__ = ["EstimatedCounter", "RowTokens", "TokenCounter", "local_counter", "row_tokens"]

_SAMPLE = 200  # sentences of a language that are looked at, evenly over the corpus
_CHAT_TOKENS = 24  # of a chat template around one message; Llama-3's has 15, Qwen2.5's with its system turn 24

# Letters that one token of a word holds in vocabularies of 128 to 152 thousand tokens, by the first word of the
# letter's Unicode name. Our own rough figures; a third more or less is to be expected.
_LETTERS = {
    "LATIN": 4.5,
    "CYRILLIC": 3.5,
    "GREEK": 2.0,
    "ARABIC": 2.5,
    "HEBREW": 2.0,
    "HANGUL": 1.3,
    "CJK": 1.2,
    "HIRAGANA": 1.2,
    "KATAKANA": 1.2,
    "THAI": 2.0,
    "DEVANAGARI": 1.8,
    "DIGIT": 2.0,
}
_RARE = 0.8  # a rare script falls apart into bytes


class TokenCounter(Protocol):
    """Counts tokens; ``method`` says how, for the reader of a plan."""

    method: str

    def count(self, piece: Piece) -> int:
        """Tokens of a piece of a prompt."""
        ...

    def count_words(self, words: Sequence[Word]) -> int:
        """Tokens of one copy of a text."""
        ...


class EstimatedCounter:
    """Tokens of words from the scripts of their letters: no tokenizer is needed."""

    method = "estimated from the scripts of the letters"

    def count(self, piece: Piece) -> int:
        return _text_tokens(piece.text)

    def count_words(self, words: Sequence[Word]) -> int:
        return sum(_word_tokens(word.text) for word in words)


@lru_cache(maxsize=1 << 14)
def _text_tokens(text: str) -> int:
    return sum(_word_tokens(word.text) for word in segment(text)) + text.count("\n")


@lru_cache(maxsize=1 << 16)
def _word_tokens(word: str) -> int:
    return max(1, math.ceil(sum(1 / _letters_per_token(letter) for letter in word) - 0.25))


@lru_cache(maxsize=1 << 14)
def _letters_per_token(letter: str) -> float:
    if letter.isascii():
        return _LETTERS["DIGIT"] if letter.isdigit() else _LETTERS["LATIN"]
    return _LETTERS.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0], _RARE)


def local_counter(folder: Path, config: ModelConfig) -> TokenCounter:
    """The tokenizer of a local model as a counter, with its own code path for words and pieces.

    Raises:
        ModelFolderError: no fast tokenizer in ``folder``.
        UnsafeFileError: a tokenizer with a pattern that may take exponential time.
    """
    from retrieveall.planning.tokenizer import CodecCounter

    return CodecCounter(folder, config)


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Of the rows of one language. ``mean`` and ``longest`` count whole rows, the rest is what they are made of.

    ``answer`` is the mean of what the model writes (0 for tags), ``reads`` of the positions where tags are read.
    """

    sentences: int
    mean: float
    longest: int
    text: float
    answer: float
    reads: float


def row_tokens(sentences: Sequence[Sentence], config: ModelConfig, counter: TokenCounter) -> RowTokens:
    """Token counts of training rows, from at most 200 of the ``sentences``, which must not be empty."""
    builder = PromptBuilder(load_template(config.prompt.template), config.labels, config.prompt, counter.count)
    tagging = config.decoder.kind == "tagging"
    copies = 2 if tagging and config.decoder.attention == "repeat" else 1
    step = max(1, len(sentences) // _SAMPLE)
    sample = [sentences[i] for i in range(0, len(sentences), step)][:_SAMPLE]
    totals, texts, answers, reads = [], [], [], []
    for number, sentence in enumerate(sample):
        words = segment(sentence.text)
        text = counter.count_words(words)
        answer = 0 if tagging else _answer_tokens(sentence, counter)
        examples = [sample[(number + i) % len(sample)] for i in range(1, config.prompt.context_examples + 1)]
        prompt = builder.build(sentence.text, _knowledge(sentence, examples), input_tokens=copies * text)
        parts = (*prompt.before, *prompt.repeat) if copies == 2 or not tagging else prompt.before
        chat = _CHAT_TOKENS if config.prompt.chat else 0
        totals.append(1 + chat + sum(map(counter.count, parts)) + copies * text + answer)
        texts.append(text)
        answers.append(answer)
        reads.append(len(words) if tagging else 0)
    return RowTokens(len(sentences), _mean(totals), max(totals), _mean(texts), _mean(answers), _mean(reads))


def _knowledge(sentence: Sentence, examples: Sequence[Sentence]) -> Knowledge:
    """What retrieval will find, more or less: its own mentions as known names, and other sentences."""
    known = tuple(
        KnownEntity(entity.start, entity.end, sentence.text[entity.start : entity.end], {"xx": {entity.label: 3}})
        for entity in sentence.entities
    )
    return Knowledge(tuple(Neighbour(each, 0.5) for each in examples), known)


def _answer_tokens(sentence: Sentence, counter: TokenCounter) -> int:
    """A line an entity (label, mention, line break), and the token that ends the answer."""
    found = 1
    for entity in sentence.entities:
        mention = sentence.text[entity.start : entity.end]
        found += counter.count_words(segment(f"{entity.label} {mention}")) + 1
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
