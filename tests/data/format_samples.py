"""Texts with entities, in the shapes that formats give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retrieveall.data import read_corpus
from retrieveall.types import Entity, Sentence

Write = Callable[[str, "str | bytes | object"], Path]


def sentence(text: str, *mentions: tuple[str, str], language: str | None = None, id: str = "") -> Sentence:
    found = [(text.index(surface), surface, label) for surface, label in mentions]
    entities = sorted(Entity(start, start + len(surface), label, surface) for start, surface, label in found)
    return Sentence(text, tuple(entities), language, id)


def found(path: str | Path, **options: object) -> list[tuple[str, list[tuple[str, str]]]]:
    """The texts with the surfaces and labels of their entities."""
    corpus = read_corpus(path, **options)  # type: ignore[arg-type]
    return [(each.text, [(entity.text, entity.label) for entity in each.entities]) for each in corpus]


BERLIN = ("Ada wohnt in Berlin.", [("Ada", "PER"), ("Berlin", "LOC")])
SPANS = [{"start": 0, "end": 3, "label": "PER"}, {"start": 13, "end": 19, "label": "LOC"}]
TRIPLES = [[0, 3, "PER"], [13, 19, "LOC"]]
TEXT = {"text": BERLIN[0]}
EXACT_TEXTS = [
    sentence("Ada wohnt in Berlin.", ("Ada", "PER"), ("Berlin", "LOC"), language="de", id="a-1"),
    sentence("👩🏻‍🚀 Ada\n\nflog  von  Köln\t東京; שלום.", ("Ada", "PER"), ("Köl", "LOC"), ("東京", "LOC"), id="a-2"),
    sentence('Nichts "hier" \\ \u2028 dort.', language="de", id="a-3"),
]
