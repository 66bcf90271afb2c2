"""Sentences of tokens with tags: to raw text with character spans and back, and CoNLL files out.

Tokens are joined by one space, unless the file says that there is none. In Chinese, Japanese and files of
single characters of scripts without spaces, they are joined without spaces, and the token ``#`` is a space, as in
PAN-X.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

import regex

from retrieveall.data.files import open_output
from retrieveall.data.schemes import Scheme, detect_scheme, spans_to_tags, tags_to_spans
from retrieveall.data.segmentation import segment_around
from retrieveall.errors import DataError, InputError
from retrieveall.types import Entity, Sentence, Word

__all__ = [
    "FileStyle",
    "TaggedSentence",
    "detect_style",
    "is_unspaced",
    "rows_of",
    "to_sentence",
    "with_style",
    "write_conll",
]

HEAD = 100
"""Sentences used to detect the style of a file."""

SPACE_TOKEN = "#"
"""The token for a space in text joined without spaces."""

_UNSPACED_LANGUAGES = {"zh", "ja"}
_UNSPACED_SCRIPT = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_PREFIX = re.compile(r"([a-z]{2,3}(?:-[a-z-]{1,20})?|simple):(?=.)")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Parallel tokens, tags and line numbers; ``joined`` are the tokens that no space follows."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]
    file: str
    joined: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class FileStyle:
    """The style of a file, from its first sentences.

    ``prefix`` is the language of ``en:token`` files; ``scheme`` is given or detected; ``accepts`` is the scheme whose
    letters are accepted, since later sentences may contradict a detected scheme.
    """

    unspaced: bool
    prefix: str | None
    scheme: Scheme
    accepts: Scheme


def is_unspaced(language: str | None) -> bool:
    """Whether a language joins tokens without spaces: Chinese and Japanese, but not romanised Min Nan."""
    if language is None:
        return False
    base = language.lower().replace("_", "-")
    return base.split("-")[0] in _UNSPACED_LANGUAGES and base != "zh-min-nan"


def detect_style(
    sentences: Sequence[TaggedSentence], *, language: str | None = None, scheme: Scheme | None = None
) -> FileStyle:
    """Detect the style of a file from its first sentences, where the caller has not given it.

    Tokens are joined without spaces if at least half of them are single characters of a script without spaces and no
    token holds several of them.
    """
    prefix = _common_prefix(sentences)
    skip = len(prefix) + 1 if prefix else 0
    tokens = [token[skip:] for sentence in sentences for token in sentence.tokens]
    unspaced = is_unspaced(language or prefix) or _single_characters(tokens)
    detected = detect_scheme(chain.from_iterable((*sentence.tags, "O") for sentence in sentences))
    return FileStyle(unspaced, prefix, scheme or detected, scheme or "bioes")


def with_style(
    sentences: Iterator[TaggedSentence], *, language: str | None = None, scheme: Scheme | None = None
) -> Iterator[tuple[TaggedSentence, FileStyle]]:
    """Each sentence with the style of its file, detected from the first ``HEAD`` sentences, which are buffered."""
    head = list(islice(sentences, HEAD))
    style = detect_style(head, language=language, scheme=scheme)
    for sentence in chain(head, sentences):
        yield sentence, style


def _common_prefix(sentences: Sequence[TaggedSentence]) -> str | None:
    found: str | None = None
    for token in chain.from_iterable(sentence.tokens for sentence in sentences):
        match = _PREFIX.match(token)
        if match is None or found not in (None, match[1]):
            return None
        found = match[1]
    return found


def _single_characters(tokens: Sequence[str]) -> bool:
    counts = [len(_UNSPACED_SCRIPT.findall(token)) for token in tokens]
    return bool(counts) and max(counts) == 1 and 2 * sum(counts) >= len(counts)


def to_sentence(tagged: TaggedSentence, style: FileStyle, *, language: str | None, identifier: str) -> Sentence:
    """Join tokens into text and turn tags into character spans.

    Raises:
        DataError: a tag outside the scheme, a token without the prefix of the file; names file and line.
    """
    tokens = _without_prefix(tagged, style.prefix) if style.prefix else tagged.tokens
    if style.unspaced:
        tokens = tuple(" " if token == SPACE_TOKEN else token for token in tokens)
    last = len(tokens) - 1
    glued = [style.unspaced or i in tagged.joined or i == last for i in range(len(tokens))]
    text = "".join(token if tight else token + " " for token, tight in zip(tokens, glued, strict=True))
    try:
        spans = tags_to_spans(tagged.tags, style.accepts)
    except InputError as error:
        raise DataError(f"{tagged.file}:{tagged.lines[0]}: {error}") from None
    starts: list[int] = []
    position = 0
    for token, tight in zip(tokens, glued, strict=True):
        starts.append(position)
        position += len(token) + (not tight)
    entities = []
    for first, last, label in spans:
        start, end = starts[first], starts[last - 1] + len(tokens[last - 1])
        entities.append(Entity(start, end, label, text[start:end]))
    return Sentence(text, tuple(entities), language or style.prefix, identifier)


def _without_prefix(tagged: TaggedSentence, prefix: str) -> tuple[str, ...]:
    lead = prefix + ":"
    for token, line in zip(tagged.tokens, tagged.lines, strict=True):
        if not token.startswith(lead) or token == lead:
            raise DataError(
                f"{tagged.file}:{line}: expected a token with the prefix {lead!r} as in the lines before, "
                f"got {token[:40]!r}; add the prefix, or remove it everywhere"
            )
    return tuple(token[len(lead) :] for token in tagged.tokens)


def write_conll(sentences: Iterable[Sentence], target: Path | IO[str], scheme: Scheme = "iob2") -> int:
    """Write ``token<TAB>tag`` lines with the words of ``segment``, a blank line after each sentence.

    A sentence with an entity that ends before a Korean particle is written with its particles apart.

    For Chinese and Japanese, white space is kept as the token ``#``; elsewhere the original spacing is lost. A sentence
    without words is skipped.

    Returns:
        The number of sentences written.

    Raises:
        DataError: an entity that begins or ends inside a word; a file that cannot be written.
    """
    count = 0
    with open_output(target) as stream:
        for sentence in sentences:
            rows = rows_of(sentence, scheme)
            if rows:
                stream.write("".join(f"{token}\t{tag}\n" for token, tag in rows) + "\n")
                count += 1
    return count


def rows_of(sentence: Sentence, scheme: Scheme = "iob2") -> list[tuple[str, str]]:
    """The words of ``segment`` with their tags, as ``write_conll`` writes them.

    Raises:
        DataError: an entity that begins or ends inside a word.
    """
    words = segment_around(sentence.text, ((each.start, each.end) for each in sentence.entities))
    units = _units(sentence.text, words, spaces=is_unspaced(sentence.language))
    first = {start: i for i, (_, start, _) in enumerate(units)}
    last = {end: i + 1 for i, (_, _, end) in enumerate(units)}
    spans = []
    for entity in sentence.entities:
        if entity.start not in first or entity.end not in last:
            raise DataError(
                f"sentence {sentence.id or sentence.text[:40]!r}: expected entities that begin and end with "
                f"a word, "
                f"got {sentence.text[entity.start : entity.end][:40]!r} at {entity.start} to {entity.end}; "
                f"write JSONL, which keeps any span"
            )
        spans.append((first[entity.start], last[entity.end], entity.label))
    return list(zip((unit for unit, _, _ in units), spans_to_tags(spans, len(units), scheme), strict=True))


def _units(text: str, found: Sequence[Word], *, spaces: bool) -> list[tuple[str, int, int]]:
    words = [(word.text, word.start, word.end) for word in found]
    if not spaces:
        return words
    ends = [0, *(end for _, _, end in words)]
    starts = [*(start for _, start, _ in words), len(text)]
    gaps = [
        (SPACE_TOKEN, i, i + 1)
        for left, right in zip(ends, starts, strict=True)
        for i in range(left, right)
        if text[i].isspace()
    ]
    return sorted(words + gaps, key=lambda unit: unit[1])
