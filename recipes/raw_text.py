"""Sentences of corpora of tokens as people write them: without the spaces that tokenising put around punctuation.

Exact spaces cannot be had back: a straight quote is closed where one is open, and a hyphen between two words keeps its
spaces, since it may be a dash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import regex

from retrieveall.types import Entity, Sentence

__all__ = ["RawSentence", "raw_text"]

_TO_THE_LEFT = regex.compile(
    r"[.,;:!?…%)\]}»”›。、，；：！？）」』】؟،]+|\.{2,}|['’](?:s|S|re|ve|ll|d|m|t)?|n['’]t|-RRB-"
)
_TO_THE_RIGHT = regex.compile(r"[(\[{«„‚‹¿¡“（「『【#@$£€]|\p{L}{1,4}['’]|-LRB-")
_LETTER = regex.compile(r"\p{L}")
_GERMAN_END = "“"  # closes „ in German, opens a quotation in English


@dataclass(frozen=True, slots=True)
class RawSentence:
    """A sentence of raw text, and where the tokens of the corpus stand in it, as (start, end)."""

    sentence: Sentence
    tokens: tuple[tuple[int, int], ...]


def raw_text(sentence: Sentence) -> RawSentence:
    """``sentence``, whose text is tokens joined by single spaces, as raw text.

    Entities without a letter are left out: the Broad Twitter Corpus labels the @ before a name as a person of its own.
    Text without spaces is returned as it is, each character a token: in Chinese and Japanese corpora it is.
    """
    named = tuple(each for each in sentence.entities if _LETTER.search(sentence.text, each.start, each.end))
    sentence = replace(sentence, entities=named)
    if sentence.language in ("zh", "ja") or " " not in sentence.text:
        spans = [(i, i + 1) for i, character in enumerate(sentence.text) if not character.isspace()]
        if sentence.language not in ("zh", "ja"):
            spans = [(0, len(sentence.text))]
        return RawSentence(sentence, tuple(spans))
    tokens = sentence.text.split(" ")
    text, spans, moved = "", [], {}
    old, glue, open_quotes = 0, True, set[str]()
    for token in tokens:
        left, right = bool(_TO_THE_LEFT.fullmatch(token)), bool(_TO_THE_RIGHT.fullmatch(token))
        if token in ('"', "'"):
            left, right = token in open_quotes, token not in open_quotes
            (open_quotes.discard if left else open_quotes.add)(token)
        elif token in "„‚" and token:
            open_quotes.add("„")
        elif token == _GERMAN_END and "„" in open_quotes:
            left, right = True, False
            open_quotes.discard("„")
        if not glue and not left:
            text += " "
        moved[old] = len(text)
        spans.append((len(text), len(text) + len(token)))
        text += token
        moved[old + len(token)] = len(text)
        old += len(token) + 1
        glue = right
    entities = []
    for entity in sentence.entities:
        start, end = _place(entity.start, moved), _place(entity.end, moved)
        entities.append(Entity(start, end, entity.label, text[start:end]))
    return RawSentence(Sentence(text, tuple(entities), sentence.language, sentence.id), tuple(spans))


def _place(offset: int, moved: dict[int, int]) -> int:
    """Where an offset of the joined tokens is now; one inside a token keeps its distance from the token's start."""
    if offset in moved:
        return moved[offset]
    start = max(each for each in moved if each < offset)
    return moved[start] + offset - start
