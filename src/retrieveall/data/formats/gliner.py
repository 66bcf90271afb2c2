"""GLiNER's training examples: ``{"tokenized_text": [...], "ner": [[first, last, label]]}``, spans of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from retrieveall.data.formats.base import Reading
from retrieveall.data.formats.json_format import JsonFormat, triples
from retrieveall.data.formats.spans import Span
from retrieveall.data.json_values import check_object, strings
from retrieveall.data.segmentation import segment_around
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["Gliner"]


class Gliner(JsonFormat):
    """Tokens are joined by spaces; the last token of a span belongs to it."""

    name = "gliner"
    title = "GLiNER JSON"
    of_tokens = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict) and isinstance(value.get("tokenized_text"), list) and "ner" in value

    def text_and_spans(self, value: Any, where: str, reading: Reading) -> tuple[str, Sequence[Span]]:
        tokens = strings(check_object(value).get("tokenized_text"), "tokenized_text")
        starts = list(accumulate((len(token) + 1 for token in tokens), initial=0))
        spans = []
        for span in triples(value.get("ner"), "ner"):
            if not 0 <= span.start <= span.end < len(tokens):
                raise ValueError(f"expected 0 <= first <= last < {len(tokens)}, got {span.start} and {span.end}")
            spans.append(Span(starts[span.start], starts[span.end + 1] - 1, span.label))
        return " ".join(tokens), spans

    def keys(self, value: Any) -> tuple[str, ...]:
        return ("ner",)

    def record(self, sentence: Sentence, number: int) -> dict[str, Any]:
        words = segment_around(sentence.text, ((each.start, each.end) for each in sentence.entities))
        first = {word.start: place for place, word in enumerate(words)}
        last = {word.end: place for place, word in enumerate(words)}
        ner = []
        for each in sentence.entities:
            if each.start not in first or each.end not in last:
                raise DataError(
                    f"sentence {sentence.id or sentence.text[:40]!r}: expected entities that begin and end with a "
                    f"word, got {sentence.text[each.start : each.end][:40]!r}; write JSONL, which keeps any span"
                )
            ner.append([first[each.start], last[each.end], each.label])
        details = {"language": sentence.language, "id": sentence.id}
        kept = {key: value for key, value in details.items() if value}
        return {"tokenized_text": [word.text for word in words], "ner": ner} | kept
