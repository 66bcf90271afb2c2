"""Word segmentation with exact offsets: the same rules for every script, in training and inference.

Uses Unicode properties only, no dictionary and no language. Apostrophes and punctuation are words of their own, so
that an entity can begin or end at any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import regex

from retrieveall.types import Word

__all__ = ["MAX_WORD", "segment", "segment_around"]

MAX_WORD = 128
"""Maximum characters of a word; a longer run is split, to bound the cost of a word."""

# Base characters of scripts without spaces between words. The prolonged sound marks, half-width voicing marks,
# the closing mark and repeat marks have the script "Common", though only Chinese and Japanese use them.
_SINGLE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}ーｰﾞﾟ〆〱-〵--\p{M}]"
_CLUSTER = r"[[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]--\p{M}]"
# Characters that attach to the one before: all marks, including those of Myanmar that UAX 29 excludes, since a
# vowel sign alone is not a word.
_EXTEND = r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}\p{M}]"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_SINGLE}--{_CLUSTER}]"
_JOIN = r"\u200c\u200d"
_EMOJI = r"\p{Extended_Pictographic}"

# Bounded repeats and possessive quantifiers keep the search linear; whatever exceeds a bound starts the next word.
# Lone surrogates, controls and format characters match nothing and so separate words.
_WORD = regex.compile(
    rf"""(?V1)(?!\s)(?:
      # keycap emoji
      [0-9\#*]\ufe0f?\u20e3
      # letters, marks and digits; the same with joiners inside
    | {_RUN}{{1,{MAX_WORD}}}+(?![{_JOIN}])
    | {_RUN}(?:[{_RUN}{_JOIN}]{{0,{MAX_WORD - 2}}}{_RUN})?
      # Han, kana, bopomofo
    | {_SINGLE}{_EXTEND}{{0,{MAX_WORD - 1}}}+
      # Thai, Lao, Khmer, Myanmar, with stacked consonants
    | {_CLUSTER}(?:{_EXTEND}{{0,31}}+(?<=[\u1039\u17d2]){_CLUSTER}){{0,2}}+{_EXTEND}{{0,31}}+
      # flags
    | \p{{Regional_Indicator}}{{1,2}}+{_EXTEND}{{0,31}}+
      # emoji and their sequences; a spacing mark before the joiner ends one
    | {_EMOJI}(?:\p{{GCB=Extend}}{{0,14}}+\u200d{_EMOJI}){{0,6}}+{_EXTEND}{{0,15}}+
      # punctuation, symbols, the rest
    | [^\s\p{{Cc}}\p{{Cf}}\p{{Cs}}]{_EXTEND}{{0,{MAX_WORD - 1}}}+
    )""",
    regex.VERBOSE,
)
_SPACE = regex.compile(r"\s")

# What may follow a name inside a Korean word: case particles and the copula, alone or with a topic particle after
# them. A split in the wrong place costs a token and no name, since names may also span several words.
_CASE = (
    "에게서|에게|에서|께서|께|에|한테|으로서|로서|으로써|로써|으로|로|와|과|"
    "이랑|랑|하고|부터|까지|보다|처럼|마다|조차|측"
)
_COPULA = "입니다|이었다|였다|이라고|라고|이라는|라는|이라|라|이며|며|이고|이자|이다|인"
_LETTER = r"[\p{Hangul}--\p{M}]"
_HANGUL_PARTS = regex.compile(
    rf"(?V1)({_LETTER}+?)((?:씨|님)?(?:(?:{_CASE})(?:은|는|도|의|만)?|은|는|이|가|을|를|의|도|만|이나|나|{_COPULA}|씨|님))$"
)
# Marks and joiners stay with the letter before.
_STRETCH = regex.compile(rf"(?V1){_LETTER}[{_LETTER}\p{{M}}{_JOIN}]*+|[^{_LETTER}]+")
_HANGUL = regex.compile(rf"(?V1){_LETTER}")


def segment(text: str, *, particles: bool = False) -> list[Word]:
    """Split ``text`` into words, ascending and disjoint, with ``text[word.start:word.end] == word.text``.

    - A maximal run of letters, combining marks and digits is one word, including zero-width joiners inside it.
    - Every Han, Hiragana, Katakana or Bopomofo character is one word, with the marks that follow it.
    - Every grapheme cluster is one word in Thai, Lao, Khmer and Myanmar, where words need a dictionary.
    - Every other grapheme cluster is one word: a punctuation mark, a symbol, an emoji sequence.
    - White space, controls, format characters and lone surrogates belong to no word.

    ``space_before``: white space separates the word from the previous one (or the start of the text). A word has at
    most ``MAX_WORD`` characters. Linear in the length of any text.

    Args:
        particles: a Hangul word is split before what may be a particle (서울|에서) and between Hangul and other scripts
            (York|에서), so that a name can begin and end inside it.
    """
    words: list[Word] = []
    append = words.append
    previous = 0
    for match in _WORD.finditer(text):
        start, end = match.span()
        space = start > previous and (text[start - 1] == " " or _SPACE.search(text, previous, start) is not None)
        word = match.group()
        if particles and _HANGUL.search(word):
            for part_start, part_end in _hangul_parts(word):
                part = word[part_start:part_end]
                append(Word(part, start + part_start, start + part_end, space and part_start == 0))
        else:
            append(Word(word, start, end, space))
        previous = end
    return words


def segment_around(text: str, spans: Iterable[tuple[int, int]]) -> list[Word]:
    """The words of ``text``; with particles apart where one of ``spans`` (start, end) would cut a whole word."""
    words = segment(text)
    starts, ends = {word.start for word in words}, {word.end for word in words}
    if all(start in starts and end in ends for start, end in spans):
        return words
    return segment(text, particles=True)


def _hangul_parts(word: str) -> Iterator[tuple[int, int]]:
    """Where the parts of a word with Hangul letters are: stems, particles, stretches of other scripts."""
    for stretch in _STRETCH.finditer(word):
        start, end = stretch.span()
        particle = _HANGUL_PARTS.fullmatch(word, start, end)
        if particle is None:
            yield start, end
        else:
            yield particle.span(1)
            yield particle.span(2)
