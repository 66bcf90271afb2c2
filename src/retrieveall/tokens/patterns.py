"""Rejects tokenizers with regular expressions that can take exponential time.

A ``tokenizer.json`` may split text by any pattern. The Rust library backtracks, gives up after seconds on a single
word, and then raises an exception that is not an ``Exception``. Patterns are parsed here, never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from retrieveall.errors import UnsafeFileError

__all__ = ["check_patterns", "may_explode"]

_QUANTIFIER = re.compile(r"([*+?]|\{(\d*)(,?)(\d*)\})([?+]?)")
_GROUP_HEAD = re.compile(r"\?(?:[:=!>|~]|<[=!]|<[^>]*>|[a-zA-Z-]*:|[a-zA-Z-]*(?=\)))")
_MANY = 8
"""A group repeated more often than this is treated as unbounded."""
_LONGEST = 20_000
"""Maximum characters of a pattern; common ones have a few hundred."""


def check_patterns(parts: Mapping[str, Any], where: str) -> None:
    """Check every pattern in the JSON of a tokenizer's components, except vocabulary and added tokens.

    Raises:
        UnsafeFileError: a pattern that may take exponential time; names it.
    """
    for pattern in _patterns({k: v for k, v in parts.items() if k not in {"model", "added_tokens"}}):
        if may_explode(pattern):
            raise UnsafeFileError(
                f"{where}: the pattern {pattern[:80]!r} has nested repetition and can take exponential "
                f"time; use a pattern without it"
            )


def _patterns(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            for key, inner in current.items():
                if key == "Regex" and isinstance(inner, str):
                    yield inner
                else:
                    pending.append(inner)
        elif isinstance(current, list):
            pending.extend(current)


def may_explode(pattern: str) -> bool:
    """Whether a group that can match in several ways has an unbounded repeat, as in ``(a+)+`` or ``(a|aa)*``.

    Conservative: may return True for a safe pattern. The patterns of GPT, Llama and Qwen repeat only single characters
    and classes.
    """
    if len(pattern) > _LONGEST:
        return True
    varies = [False]  # for every open group: can its body match in several ways?
    i = 0
    while i < len(pattern):
        closed = False
        if pattern[i] == "(":
            head = _GROUP_HEAD.match(pattern, i + 1)
            i = head.end() if head else i + 1
            varies.append(False)
            continue
        if pattern[i] == "|":
            varies[-1] = True
            i += 1
            continue
        if pattern[i] == ")" and len(varies) > 1:
            closed = varies.pop()
            i += 1
        else:
            i = _skip_atom(pattern, i)
        while quantifier := _QUANTIFIER.match(pattern, i):
            i = quantifier.end()
            least, most = _bounds(quantifier)
            if closed and most > _MANY:
                return True
            closed = closed or least != most
        varies[-1] = varies[-1] or closed
    return False


def _bounds(quantifier: re.Match[str]) -> tuple[float, float]:
    kind = quantifier[1]
    if kind in {"*", "+", "?"}:
        return (1 if kind == "+" else 0), (1 if kind == "?" else float("inf"))
    least = float(quantifier[2] or 0)
    most = least if not quantifier[3] else float(quantifier[4] or "inf")
    return least, most


def _skip_atom(pattern: str, i: int) -> int:
    """The end of the character, escape or class that begins at ``i``."""
    if pattern[i] == "\\":
        if pattern[i + 1 : i + 2] in {"p", "P", "x", "o", "u"} and pattern[i + 2 : i + 3] == "{":
            closing = pattern.find("}", i)
            return closing + 1 if closing >= 0 else len(pattern)
        return i + 2
    if pattern[i] != "[":
        return i + 1
    depth = 0
    while i < len(pattern):  # classes nest: [\p{L}&&[^a]]
        if pattern[i] == "\\":
            i += 1
        elif pattern[i] == "[":
            depth += 1
            i += pattern[i + 1 : i + 2] == "^"
            i += pattern[i + 1 : i + 2] == "]"  # directly after the opening bracket it is a literal
        elif pattern[i] == "]":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return i
