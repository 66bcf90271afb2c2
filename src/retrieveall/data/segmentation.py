"""Word segmentation with exact offsets: the same rules for every script, in training and inference.

Uses Unicode properties only, no dictionary and no language. Apostrophes and punctuation are words of their own, so
that an entity can begin or end at any of them.
"""

from __future__ import annotations

import regex

from retrieveall.types import Word

__all__ = ["MAX_WORD", "segment"]

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


def segment(text: str) -> list[Word]:
    """Split ``text`` into words, ascending and disjoint, with ``text[word.start:word.end] == word.text``.

    - A maximal run of letters, combining marks and digits is one word, including zero-width joiners inside it.
    - Every Han, Hiragana, Katakana or Bopomofo character is one word, with the marks that follow it.
    - Every grapheme cluster is one word in Thai, Lao, Khmer and Myanmar, where words need a dictionary.
    - Every other grapheme cluster is one word: a punctuation mark, a symbol, an emoji sequence.
    - White space, controls, format characters and lone surrogates belong to no word.

    ``space_before``: white space separates the word from the previous one (or the start of the text). A word has at
    most ``MAX_WORD`` characters. Linear in the length of any text.
    """
    words: list[Word] = []
    append = words.append
    previous = 0
    for match in _WORD.finditer(text):
        start, end = match.span()
        space = start > previous and (text[start - 1] == " " or _SPACE.search(text, previous, start) is not None)
        append(Word(match.group(), start, end, space))
        previous = end
    return words
