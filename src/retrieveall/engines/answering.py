"""What a model wrote about a text, and the entities in it. Knows answers, not models: every engine can use it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from retrieveall.decoding import parse_answer
from retrieveall.engines.base import Generated

__all__ = ["Written", "read_answer"]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer of ``tokens`` tokens. ``lines`` holds the log-probability of each of its lines.

    ``ended`` tells whether the model came to an end; where it did not, the last line is cut off and not in ``answer``.
    """

    answer: str = ""
    lines: tuple[float, ...] = ()
    tokens: int = 0
    ended: bool = True


def read_answer(written: Written, text: str, labels: Collection[str], *, constrained: bool = True) -> Generated:
    """The entities of an answer about ``text``, each with the probability of its line.

    Without a grammar (``constrained``) an answer that came to no end counts as a malformed line.
    """
    parsed = parse_answer(written.answer, text, labels)
    spans = [
        (start, end, label, math.exp(max(written.lines[line], -50.0)) if line < len(written.lines) else 0.0)
        for (start, end, label), line in zip(parsed.spans, parsed.lines, strict=True)
    ]
    endless = not constrained and not written.ended
    return Generated(spans, written.answer, parsed.malformed + endless, parsed.invented, parsed.unknown)
