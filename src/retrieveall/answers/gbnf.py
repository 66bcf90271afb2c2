"""The grammar of the answers about one text in the notation of servers (GBNF, which xgrammar calls EBNF).

Allows the same answers as ``answers.grammar``: lines of a label and whole words of the text, in text order, each after
the previous mention. Every word has three rules, so that the size is linear in the text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from retrieveall.answers.format import SKIP, Mentions
from retrieveall.config import Spacing

__all__ = ["answer_gbnf"]


def answer_gbnf(text: str, labels: Iterable[str], spacing: Spacing = "as_is") -> str:
    """The grammar as text, with the start symbol ``root``.

    ``line7`` begins with word 7 or a later one, ``word7`` continues with word 7, ``end7`` with what may follow it.
    """
    mentions = Mentions(text)
    names = dict.fromkeys(unicodedata.normalize("NFC", label) for label in (*labels, SKIP))
    if not len(mentions):
        return 'root ::= ""\n'
    rules = ['root ::= "" | line0', f"label ::= {' | '.join(map(_quoted, names))}"]
    last = len(mentions) - 1
    for number, form in enumerate(mentions.forms):
        later = f" | line{number + 1}" if number < last else ""
        rules.append(f'line{number} ::= label " " word{number}{later}')
        if number == last:
            rules.append(f"word{number} ::= {_quoted(form)}")
            continue
        gap = mentions.gap(number + 1, spacing)
        following = f"{_quoted(gap)} word{number + 1}" if gap else f"word{number + 1}"
        rules.append(f"word{number} ::= {_quoted(form)} end{number}")
        rules.append(f'end{number} ::= "" | {following} | "\\n" line{number + 1}')
    return "\n".join(rules) + "\n"


def _quoted(text: str) -> str:
    """A string literal; non-printable characters are escaped."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
