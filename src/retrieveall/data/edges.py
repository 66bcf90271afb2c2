"""What the characters of a word say about entities: whether it may stand at an edge, and whether it holds a letter.

Quotes, round brackets and punctuation may: "St.", "Yahoo!", "(...)". Markup, bullets, arrows and emoji may not.
"""

from __future__ import annotations

import regex

from retrieveall.types import Word

__all__ = ["has_letter", "may_be_edge"]

_LETTER = regex.compile(r"(?V1)[\p{L}--\p{Default_Ignorable_Code_Point}]")  # Hangul fillers are blank
# Signs that are emoji only with a variation selector, and stand in names and after them.
_SIGNS = "©®™♀♂♩-♯"
_MARKUP = r"*_`#|<>\[\]{}~=\\^＊＿｀＃｜＜＞［］｛｝～＝＼＾"
_BULLETS = r"•‣⁃◦∙·・｡"
_NO_EDGE = regex.compile(
    rf"""(?V1)
      [{_MARKUP}{_BULLETS}]
    | [[\p{{Emoji_Presentation}}\p{{Emoji_Modifier}}\p{{Regional_Indicator}}\p{{Extended_Pictographic}}&&\p{{S}}]
       --[{_SIGNS}]]
    | [[\p{{Block=Arrows}}\p{{Block=Box_Drawing}}\p{{Block=Block_Elements}}\p{{Block=Geometric_Shapes}}
       \p{{Block=Miscellaneous_Symbols}}\p{{Block=Dingbats}}\p{{Block=Braille_Patterns}}]--[{_SIGNS}]]
    | .+[\ufe0f\u20e3]\Z
    """,
    regex.VERBOSE | regex.DOTALL,
)


def has_letter(word: Word) -> bool:
    """Whether the word holds a letter of any script."""
    return _LETTER.search(word.text) is not None


def may_be_edge(word: Word) -> bool:
    """Whether an entity may begin or end with the word: no markup character, bullet, arrow or emoji."""
    return _NO_EDGE.match(word.text) is None
