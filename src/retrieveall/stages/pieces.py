"""Long texts in pieces: a book goes through the stages a hundred thousand characters at a time, in constant memory.

A piece is a text of its own to the stages. Pieces end where no entity continues: at a blank line if possible, else at
the end of a sentence, of a line, or of a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from operator import attrgetter
from typing import NamedTuple

from retrieveall.stages.merge import merge_routes
from retrieveall.types import AnswerFaults, Entity, Knowledge, Neighbour, Prediction, Route, Sentence

__all__ = ["Parts", "Piece", "PiecePrediction", "cut_pieces", "group_pieces", "sum_faults"]

PIECE_CHARACTERS = 100_000
_NEIGHBOURS, _KNOWN = 1_000, 10_000  # kept of a text of several pieces
_ENDS = [re.compile(p) for p in (r"\n[^\S\n]*\n\s*", r"[.!?。！？][\"'”’»)\]]*\s+|[。！？]", r"\n", r"\s")]


class Piece(NamedTuple):
    """``text`` begins at ``offset`` in the text with the number ``document``."""

    document: int
    offset: int
    text: str


class Weight(NamedTuple):
    """The words of a piece: its weight in the route of the text."""

    kept_words: int


class PiecePrediction(NamedTuple):
    """The prediction for a piece, and the words in it."""

    prediction: Prediction
    kept_words: int


def cut_pieces(texts: Iterable[str], size: int = PIECE_CHARACTERS) -> Iterator[Piece]:
    """The pieces of the texts in order; joined, those of a text are the text. An empty text has one empty piece."""
    for document, text in enumerate(texts):
        start = 0
        while len(text) - start > size:
            end = _end(text, start + size // 2, start + size)
            yield Piece(document, start, text[start:end])
            start = end
        yield Piece(document, start, text[start:])


def _end(text: str, first: int, last: int) -> int:
    """The best place for a piece to end, between the two positions."""
    for pattern in _ENDS:
        end = 0
        for match in pattern.finditer(text, first, last):
            end = match.end()
        if end:
            return end
    return last


def group_pieces(pieces: Iterable[Piece], characters: int = PIECE_CHARACTERS) -> Iterator[list[Piece]]:
    """Pieces in groups that go through the stages together, of at most about so many characters."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and size + len(piece.text) > characters:
            yield group
            group, size = [], 0
        group.append(piece)
        size += len(piece.text)
    if group:
        yield group


@dataclass(slots=True)
class Parts:
    """Collects the predictions of a text's pieces, in order."""

    text: str
    first: Prediction | None = None
    entities: list[Entity] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    knowledge: Knowledge = field(default_factory=Knowledge)
    faults: list[AnswerFaults] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    windows: int = 0
    unknown_windows: int = 0

    def add(self, piece: Piece, found: PiecePrediction) -> None:
        """Add the next piece."""
        if len(piece.text) == len(self.text):  # the only one
            self.first = found.prediction
            return
        prediction = found.prediction
        self.entities += (_moved(entity, piece.offset) for entity in prediction.entities)
        self.knowledge = _joined(self.knowledge, prediction.knowledge, piece.offset)
        self.routes.append(prediction.route)
        self.weights.append(Weight(found.kept_words))
        self.prompts += prediction.prompts
        self.windows += prediction.windows
        self.unknown_windows += prediction.unknown_windows
        if prediction.faults is not None:
            self.faults.append(prediction.faults)

    def whole(self) -> Prediction:
        """The prediction for the text."""
        if self.first is not None:
            return self.first
        route = merge_routes(self.weights, self.routes)
        faults = sum_faults(self.faults)
        return Prediction(
            self.text,
            tuple(self.entities),
            route,
            self.knowledge,
            faults,
            tuple(self.prompts),
            self.windows,
            self.unknown_windows,
        )


def sum_faults(found: Sequence[AnswerFaults]) -> AnswerFaults | None:
    """The faults of several answers together; None if there are no answers."""
    if not found:
        return None
    return AnswerFaults(
        sum(each.malformed for each in found), sum(each.invented for each in found), sum(each.unknown for each in found)
    )


def _moved(entity: Entity, offset: int) -> Entity:
    return replace(entity, start=entity.start + offset, end=entity.end + offset)


def _joined(before: Knowledge, piece: Knowledge, offset: int) -> Knowledge:
    """The nearest neighbours of both, and the first known mentions."""
    nearest: dict[Sentence, Neighbour] = {}
    for each in (*before.neighbours, *piece.neighbours):
        if each.sentence not in nearest or nearest[each.sentence].similarity < each.similarity:
            nearest[each.sentence] = each
    room = max(0, _KNOWN - len(before.entities))
    known = (replace(each, start=each.start + offset, end=each.end + offset) for each in piece.entities[:room])
    kept = nlargest(_NEIGHBOURS, nearest.values(), key=attrgetter("similarity"))
    return Knowledge(tuple(kept), (*before.entities, *known))
