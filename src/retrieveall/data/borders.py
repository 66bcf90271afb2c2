"""Borders that no entity crosses: sentence ends, blank lines, tabs, table cells and the lines of lists.

Uses Unicode properties and a list of abbreviations, no language: it is unknown where borders are needed. A border
inside a name loses the name, while a missing one leaves the choice to the model. So where the two are hard to tell
apart, there is no border.

Knows characters and words, not labels or models.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

import regex

from retrieveall.types import Word

__all__ = ["find_borders", "line_starts", "script_changes", "sentence_starts"]


def find_borders(text: str, words: Sequence[Word]) -> list[int]:
    """The numbers of the words of ``text`` that no entity continues into, ascending, without the first word.

    Linear in the length of any text.
    """
    if not words:
        return []
    starts = [word.start for word in words]
    sentences = list(sentence_starts(text))
    found = {bisect_left(starts, at) for at in (*sentences, *line_starts(text, sentences))}
    return sorted(number for number in found if 0 < number < len(words))


_FEW_LETTERS = 6
"""Fewer do not change the script of a text."""


def script_changes(words: Sequence[Word], borders: Sequence[int]) -> list[int]:
    """Those of ``borders`` at which the script changes that most letters are in, and with it the language.

    Chinese characters and kana are one script. A stretch of a few letters, such as a cell with a number and a unit, is
    in that of the one before it.
    """
    changes: list[int] = []
    before = None
    if not borders:
        return changes
    for start, end in pairwise((0, *borders, len(words))):
        scripts = Counter(map(_script, (letter for word in words[start:end] for letter in word.text)))
        del scripts[None]
        script, letters = max(scripts.items(), key=itemgetter(1), default=(None, 0))
        if letters < _FEW_LETTERS:
            continue
        if before not in (None, script):
            changes.append(start)
        before = script
    return changes


@lru_cache(maxsize=4096)
def _script(letter: str) -> str | None:
    """The first word of its Unicode name, which for a letter is its script; None for what is no letter."""
    if not letter.isalpha():
        return None
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name


# -- sentences ----------------------------------------------------------------------------------------------------

_FULL_STOP = r"\p{Sentence_Break=ATerm}"
_WIDE_STOP = r"[。！？．｡…]"
_STOP = rf"[{_FULL_STOP}\p{{Sentence_Break=STerm}}…]"
# An opening quote of one language closes in another, but not after the stops of Chinese and Japanese.
_CLOSING = rf"(?:[\p{{Pe}}\p{{Pf}}\"'*_`~]|(?<!{_WIDE_STOP})\p{{Pi}}|\[\p{{Nd}}{{1,3}}\])"
_OPENING = r"[\p{Ps}\p{Pi}\p{Pf}\"'¿¡*_`~]"

# Every quantifier is bounded or possessive and a run is tried once, so that runs of marks take linear time.
_END = regex.compile(
    rf"(?V1)(?<!{_STOP})(?P<stops>{_STOP}++)(?P<closing>{_CLOSING}{{0,4}}+)(?P<space>\s*+)"
    rf"(?=(?P<opening>{_OPENING}{{0,4}}+)(?P<next>.{{1,2}}))",
    regex.DOTALL,
)
_LAST_WORD = regex.compile(r"(?:[\p{L}\p{M}\p{N}]|(?<=[\p{L}\p{N}])[.’'](?=\p{L}))+\Z")
_LOOK_BACK = 32
"""Characters of the last word that are looked at; a longer word is no abbreviation."""

_OPEN = regex.compile(r"(?:[\p{Ps}\p{Pi}`]|(?:\A|\s)[\"'])\Z")
_HAS_WIDE_STOP = regex.compile(_WIDE_STOP)
_IS_FULL_STOP = regex.compile(rf"{_FULL_STOP}\Z")
_CONTINUES = regex.compile(rf"(?V1){_STOP}|[\p{{Ll}}\p{{Pe}}\p{{Pd}}\p{{Pc}}\p{{M}},;:、，；：/&%=+|]")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]\Z")
_HANGUL = regex.compile(r"\p{Hangul}\Z")
_HIRAGANA = regex.compile(r"\p{Hiragana}")
_CYRILLIC = regex.compile(r"\p{Cyrillic}")
_CASED = regex.compile(r"[\p{Lu}\p{Lt}\p{Ll}]")
_VOWEL = regex.compile(r"[aeiouyаеёиоуыэюяіїєαεηιουω]", regex.IGNORECASE)
_INITIALS = regex.compile(r"\p{L}{1,2}(?:\.\p{L}{1,2})+|\p{L}\p{M}*")
# "March 4", "Covid-19", "2,5", "03 05": what precedes the number says that it is no ordinal.
_CARDINAL = regex.compile(r"(?:\p{Lu}\p{Ll}{3,}|\p{Nd}) \Z|[-‐–:,/]\Z")
_ROMAN = regex.compile(r"[IVX]{2,6}")
_PLURAL = regex.compile(r"(\p{Lu})\1")  # "EE. UU."


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    # titles
    "prof profa sra srta dra lic ing arq gral gen col cap capt maj gov sen rep rev hon adm cmdr pres pdte mme "
    "mlle mons hr frl dipl med jur rer nat phil dent vet theol habil sig dott avv проф акад ген им св ул пр просп пл "
    "обл пос дер тов гос адм кап лейт инж доц канд "
    # places and companies
    "ste sta sto mte av avda ave univ dept dist co bros cia cía"
)
"""Abbreviations with a vowel that stand before names.

Those without a vowel ("Dr", "Mr", "Nr", "bzw") and single letters follow rules.
"""

_BEFORE_NUMBERS = _words(
    "no nos num núm núms art abs vol vols fig figs ed eds éd op ca approx pag pág págs par cap tel kap abb anm "
    "aufl geb gest рис табл изд "
    "jan feb apr aug sep sept oct okt nov dec dez abr ago ene dic janv févr avr juil déc янв фев "
    "апр авг сен окт ноя дек"
)
"""Abbreviations with a vowel that stand before numbers, and may be whole words elsewhere."""

_ENDING = _words("ltd др гг грн млн млрд km kg км кг mm cm hbf")
"""Words without a vowel that a sentence may end with as well as with any other word."""


def sentence_starts(text: str) -> Iterator[int]:
    """Where the second and later sentences of ``text`` begin, ascending: offsets of their first character."""
    for match in _END.finditer(text):
        if _ends_sentence(text, match):
            yield match.end()


def _ends_sentence(text: str, match: regex.Match[str]) -> bool:
    after = match["next"]
    if _CONTINUES.match(after):
        return False
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
    if len(match["stops"]) > 1 and (not before or _OPEN.search(before)):  # "... Baby One More Time"
        return False
    if not match["space"]:
        if match["closing"] and _HIRAGANA.match(after):  # 「…。」と言った
            return False
        if _HAS_WIDE_STOP.search(match["stops"]):
            return match["stops"] != "．" or not after[0].isdigit()
        return _HANGUL.search(before) is not None and (after[0].isalnum() or match["opening"] != "")
    if not _IS_FULL_STOP.match(match["stops"]):
        return True
    word = _LAST_WORD.search(before)
    if word is None:
        return True
    if match["opening"].startswith("(") and _ROMAN.fullmatch(word.group()):  # "Sancho IV. (Navarra)"
        return False
    return not _is_abbreviation(word.group(), before[: word.start()], after)


def _is_abbreviation(word: str, before: str, after: str) -> bool:
    """Whether the full stop after ``word`` may belong to it; ``after`` holds the next two characters."""
    if _UNSPACED.search(word):
        return False
    if word.isdecimal():  # "3. Oktober", "1. FC Köln"; years end sentences
        return len(word) <= 2 and (_all_capitals(after) or not (_CARDINAL.search(before) or _CYRILLIC.match(after)))
    if _INITIALS.fullmatch(word):  # "U.S. President", "J. Smith", but "1998 г. Он"
        return "." in word or after[-1] == "." or not before.rstrip()[-1:].isdecimal()
    if not _CASED.search(word):
        return len(word) <= 3  # Hindi "डॉ", Thai "ดร"
    if _PLURAL.fullmatch(word):
        return True
    if word.isupper() and not (_all_capitals(after) and not any(map(str.islower, before))):
        return False  # "NASA."; in a text of capitals it may be "DR. SMITH"
    lower = word.lower()
    if lower in _ENDING or not word.isalpha():
        return False
    if lower in _ABBREVIATIONS or (after[0].isdecimal() and lower in _BEFORE_NUMBERS):
        return True
    return len(word) <= 4 and not _VOWEL.search(unicodedata.normalize("NFD", word))


def _all_capitals(after: str) -> bool:
    return after.isalpha() and after.isupper()


# -- lines --------------------------------------------------------------------------------------------------------

_SEPARATOR = regex.compile(r"[\x00-\x08\t\f\x0e-\x1f\u2029|｜¦│┃║]")
"""Tabs, control characters, separators of pages, records and paragraphs, and borders of table cells."""

_LINE = regex.compile(r"[^\n\r\v\x85\u2028]*+(?:\r\n|[\n\r\v\x85\u2028]|\Z)")
_ITEM = regex.compile(r"[•‣⁃◦∙●○■□▪▫◆◇►▶➤·・>#|]|[-–—*+] |\p{Nd}{1,3}[.)] |\p{L}\) ")
_BULLET = regex.compile(r"[-–—*+•‣⁃◦∙●○■□▪▫◆◇►▶➤·・>#] \s*+")
_NUMBER = regex.compile(r"(\p{Nd}{1,3})[.)] \s*+")
_UNFINISHED = regex.compile(r"[-‐‑,،、，;(（\[/&]\Z")
_CONTINUATION = regex.compile(r"(?V1)[\p{Ps}\p{Pi}\"']*+[[\p{Ll}\p{Pe},.;:!?]--[\p{Ps}\p{Pi}\"']]")
_FINISHED = regex.compile(rf"(?V1){_STOP}{_CLOSING}{{0,4}}\Z")
_WIDE = regex.compile(r"[\p{East_Asian_Width=Wide}\p{East_Asian_Width=Fullwidth}]")
_FIRST_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|\S{1,40}+")
_WORDS = regex.compile(r"\p{Han}|[\p{L}\p{M}\p{N}]++")

_LEAST_WIDTH = 40  # columns of a wrapped text; narrower lines say nothing about where their text was wrapped
_EARLY = 0.75  # a line that ends before this part of the width was ended on purpose
_FULL = 0.85  # lines that reach this part of the width show that there is one
_FEWEST_WORDS, _FEWEST_COLUMNS = 3, 10  # of a headline; a shorter line may be the first half of a name


class _Line(NamedTuple):
    start: int
    text: str  # without blanks at its ends
    indent: int = 0  # blanks before it


def line_starts(text: str, sentences: Sequence[int] = ()) -> Iterator[int]:
    """Offsets where a tab, a table cell, a blank line or a line of a list ends; ``sentences`` as `sentence_starts`.

    A single line break is no border in a paragraph that was wrapped, since names are wrapped too.
    """
    for match in _SEPARATOR.finditer(text):
        yield match.end()
    block: list[_Line] = []
    for match in _LINE.finditer(text):
        whole = match.group()
        line = _Line(match.start(), whole.strip(), len(whole) - len(whole.lstrip()))
        if any(map(str.isalnum, line.text)):
            block.append(line)
            continue
        yield match.end()
        yield from _ended_lines(block, sentences)
        block = []
    yield from _ended_lines(block, sentences)


def _ended_lines(block: Sequence[_Line], sentences: Sequence[int]) -> Iterator[int]:
    """Where the lines begin that do not continue the line before; ``block`` has no blank line."""
    yield from _after_markers(block)
    if len(block) < 2:
        return
    pairs = list(pairwise(block))
    continued = [_continues(before.text, line.text) for before, line in pairs]
    columns = [_columns(line.text) for line in block]
    needed = [width + 1 + _columns(_first_word(line.text)) for width, (_, line) in zip(columns, pairs, strict=False)]
    width = max(columns)
    if any(continued) or _has_sentences(block, sentences):
        wrapped = width >= _LEAST_WIDTH and sum(each >= _FULL * width for each in columns) >= 2
        ended = [wrapped and each <= _EARLY * width for each in needed]
    elif width >= _LEAST_WIDTH and all(each > width for each in needed):
        ended = [False] * len(pairs)  # every line is as full as if it had been wrapped
    else:
        ended = [len(block) > 2 or _is_headline(*pair) for pair in pairs]
    for (_, line), follows, end in zip(pairs, continued, ended, strict=True):
        if _ITEM.match(line.text) or (end and not follows):
            yield line.start


def _after_markers(block: Sequence[_Line]) -> Iterator[int]:
    """Where the bullets end that lines begin with, and the numbers of lines that count: "1. FC Köln" alone does not."""
    counts = [int(match[1]) if (match := _NUMBER.match(line.text)) else None for line in block]
    for before, count, after, line in zip([None, *counts], counts, [*counts[1:], None], block, strict=False):
        match = _BULLET.match(line.text)
        if count is not None and any(other is not None and abs(other - count) == 1 for other in (before, after)):
            match = _NUMBER.match(line.text)
        if match is not None:
            yield line.start + line.indent + match.end()


def _continues(before: str, line: str) -> bool:
    return _UNFINISHED.search(before) is not None or _CONTINUATION.match(line) is not None


def _has_sentences(block: Sequence[_Line], sentences: Sequence[int]) -> bool:
    """Whether a sentence ends in the block: then its lines are running text and not headlines."""
    end = block[-1].start + len(block[-1].text)
    inside = bisect_left(sentences, end) > bisect_right(sentences, block[0].start)
    return inside or any(_FINISHED.search(line.text) for line in block)


def _is_headline(before: _Line, line: _Line) -> bool:
    words = len(_WORDS.findall(before.text))
    return (
        words >= _FEWEST_WORDS
        and _columns(before.text) >= _FEWEST_COLUMNS
        and len(_WORDS.findall(line.text)) >= _FEWEST_WORDS - 1
    )


def _columns(text: str) -> int:
    """The width of ``text`` in a font of fixed width."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))


def _first_word(text: str) -> str:
    match = _FIRST_WORD.match(text)
    return match.group() if match else ""
