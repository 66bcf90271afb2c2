"""Two sentences in a row: how often an entity reaches from one into the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from statistics import fmean
from typing import Any

from recipes.measure.prediction import predict_all
from recipes.measure.running import RunningSet
from retrieveall.evaluation import Predictor
from retrieveall.types import Entity

__all__ = ["JOINS", "SentencePair", "measure_pairs", "pairs_of"]

PAIRS = 75
"""Of each language."""
JOINS = {"joined": " ", "line breaks": "\n\n", "tab": "\t"}
WITHOUT_SPACES = ("zh", "ja")
_FINAL = tuple(".!?…。！？؟")
_CLOSING = "\"'”’»」』）)]"


@dataclass(frozen=True)
class SentencePair:
    """A text of two sentences: the first ends at ``left``, the second begins at ``right``."""

    text: str
    left: int
    right: int

    @classmethod
    def joined(cls, first: str, join: str, second: str) -> SentencePair:
        return cls(first + join + second, len(first), len(first) + len(join))

    def is_crossed_by(self, entity: Entity) -> bool:
        """Whether the entity holds characters of both sentences."""
        return entity.start < self.left and entity.end > self.right


def pairs_of(sets: Sequence[RunningSet], count: int = PAIRS) -> list[tuple[str, str]]:
    """Up to ``count`` pairs of sentences that follow each other in one set, from the sets in turn.

    The first sentence ends in a full stop or the like; none holds a line break; none is in two pairs.
    """
    in_turn = chain.from_iterable(zip_longest(*(_pairs_of_set(each.texts) for each in sets)))
    return list(islice((pair for pair in in_turn if pair is not None), count))


def _pairs_of_set(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    at = 0
    while at + 1 < len(texts):
        first, second = texts[at].strip(), texts[at + 1].strip()
        fits = first.rstrip(_CLOSING).endswith(_FINAL) and second and not {"\n", "\r"} & {*first, *second}
        if fits:
            yield first, second
        at += 2 if fits else 1


def measure_pairs(model: Predictor, sets: Sequence[RunningSet], count: int = PAIRS) -> dict[str, Any]:
    """The share of pairs with an entity across the border: by language and way of joining, and their means."""
    languages: dict[str, dict[str, Any]] = {}
    examples = []
    for language in dict.fromkeys(each.language for each in sets):
        sentences = pairs_of([each for each in sets if each.language == language], count)
        if not sentences:
            continue
        languages[language] = {"pairs": len(sentences)}
        for name, join in JOINS.items():
            between = "" if join == " " and language in WITHOUT_SPACES else join
            pairs = [SentencePair.joined(first, between, second) for first, second in sentences]
            predictions = predict_all(model, [pair.text for pair in pairs], f"pairs {language}, {name}")
            crossing = [
                [entity for entity in found.entities if pair.is_crossed_by(entity)]
                for pair, found in zip(pairs, predictions, strict=True)
            ]
            languages[language][name] = sum(map(bool, crossing)) / len(pairs)
            examples += [
                {"language": language, "join": name, "label": entity.label, "text": entity.text}
                for entity in chain.from_iterable(crossing)
            ]
    mean = {name: fmean(each[name] for each in languages.values()) for name in JOINS} if languages else {}
    return {"languages": languages, "mean": mean, "crossing": examples}
