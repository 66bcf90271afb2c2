"""Token counts of training rows: the prompt with its knowledge, the text, and its repeat or answer.

Prompts come from the real builder, with simulated retrieval: other sentences of the language, and the sentence's own
mentions. Tokens are counted by the backbone's tokenizer if it is available locally, else estimated per word from the
scripts of its letters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from retrieveall import stages
from retrieveall.config import ModelConfig
from retrieveall.data import segment
from retrieveall.prompts import Piece
from retrieveall.tokens import TokenCodec, load_tokenizer
from retrieveall.types import Knowledge, KnownEntity, Neighbour, Sentence, Word

__all__ = ["CodecCounter", "EstimatedCounter", "RowTokens", "TokenCounter", "row_tokens"]

_SAMPLE = 200  # sentences sampled per language, evenly over the corpus
_CHAT_TOKENS = 24  # tokens of a chat template around one message: Llama-3 15, Qwen2.5 with its system turn 24

# Letters per token with vocabularies of 128 to 152 thousand tokens, by the first word of the letter's Unicode name.
# Our own rough figures; expect errors of a third.
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
_RARE = 0.8  # rare scripts are split into bytes


class TokenCounter(stages.TokenCounter, Protocol):
    """Counts tokens; ``method`` describes how, for the plan."""

    method: str


class EstimatedCounter:
    """Estimates tokens from the scripts of the letters, without a tokenizer."""

    method = "estimated from the scripts of the letters"

    def count(self, piece: Piece) -> int:
        return _text_tokens(piece.text)

    def cost(self, words: Sequence[Word]) -> int:
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


class CodecCounter:
    """Counts with the tokenizer of a local backbone, as training and inference do.

    Raises:
        ModelFolderError: no fast tokenizer in ``folder``.
        UnsafeFileError: a tokenizer with a pattern that may take exponential time.
    """

    method = "counted by the tokenizer"

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        backbone = config.backbone.model_copy(update={"path": str(folder.resolve())})
        self._codec = TokenCodec(load_tokenizer(backbone, None), config.decoder.spacing)

    def count(self, piece: Piece) -> int:
        return self._codec.count(piece)

    def cost(self, words: Sequence[Word]) -> int:
        return self._codec.cost(words)


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Tokens of one language's rows: ``mean`` and ``longest`` of whole rows, the others means of their components.

    ``answer``: tokens that the model writes (0 for tagging). ``tags``: positions where tags are read.
    """

    sentences: int
    mean: float
    longest: int
    text: float
    answer: float
    tags: float


def row_tokens(sentences: Sequence[Sentence], config: ModelConfig, counter: TokenCounter) -> RowTokens:
    """Token counts of training rows, from at most 200 of the ``sentences``, which must not be empty."""
    steps = stages.Stages(config, None, counter)
    copies, writes = config.decoder.copies, config.decoder.longest_answer > 0
    step = max(1, len(sentences) // _SAMPLE)
    sample = [sentences[i] for i in range(0, len(sentences), step)][:_SAMPLE]
    totals, texts, answers, tags = [], [], [], []
    for number, sentence in enumerate(sample):
        examples = [sample[(number + i) % len(sample)] for i in range(1, config.prompt.context_examples + 1)]
        windows = steps.window([sentence.text])
        found = [_knowledge(sentence, examples) if len(windows) == 1 else Knowledge() for _ in windows]
        for window, prompt in zip(windows, steps.prompt(windows, found), strict=True):
            text = counter.cost(window.words)
            answer = _answer_tokens(sentence, counter) if writes else 0
            parts = (*prompt.before, *prompt.repeat) if copies == 2 or writes else prompt.before
            chat = _CHAT_TOKENS if config.prompt.chat else 0
            totals.append(1 + chat + sum(map(counter.count, parts)) + copies * text + answer)
            texts.append(text)
            answers.append(answer)
            tags.append(0 if writes else window.kept_words)
    if not totals:  # no sentence has a word
        return RowTokens(len(sentences), 0, 0, 0, 0, 0)
    return RowTokens(len(sentences), _mean(totals), max(totals), _mean(texts), _mean(answers), _mean(tags))


def _knowledge(sentence: Sentence, examples: Sequence[Sentence]) -> Knowledge:
    """Simulated retrieval: the sentence's own mentions as known entities, and other sentences."""
    known = tuple(
        KnownEntity(entity.start, entity.end, sentence.text[entity.start : entity.end], {"xx": {entity.label: 3}})
        for entity in sentence.entities
    )
    return Knowledge(tuple(Neighbour(each, 0.5) for each in examples), known)


def _answer_tokens(sentence: Sentence, counter: TokenCounter) -> int:
    """One line per entity (label, mention, line break), and the end token."""
    found = 1
    for entity in sentence.entities:
        mention = sentence.text[entity.start : entity.end]
        found += counter.cost(segment(f"{entity.label} {mention}")) + 1
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
