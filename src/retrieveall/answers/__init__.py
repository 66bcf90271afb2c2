"""The answer format of generating models, and the grammar of all valid answers about a text."""

from __future__ import annotations

from retrieveall.answers.format import SKIP, ParsedAnswer, parse_answer, shown_text, write_answer

__all__ = ["SKIP", "ParsedAnswer", "parse_answer", "shown_text", "write_answer"]
