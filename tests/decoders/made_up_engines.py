"""Engines without a model: any model that could be, and one that has learnt what training teaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrieveall.decoders import Target
from retrieveall.engines import ScoreRequest, WriteRequest, Written
from retrieveall.tokens import TokenCodec

__all__ = ["Oracle", "Untrained"]


class Untrained:
    """Scores that depend on the token alone, and answers that depend on the text alone: any model that could be."""

    def __init__(self, codec: TokenCodec, seed: int = 0) -> None:
        self.codec = codec
        self.asked = 0
        self._seed = seed
        self._table = np.random.default_rng(seed).normal(0, 2, (400, 400)).astype(np.float32)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        self.asked += len(requests)
        return [
            self._table[[each.ids[at] for at in each.positions]][:, list(each.candidates)].reshape(
                len(each.positions), len(each.candidates)
            )
            for each in requests
        ]

    def write(self, requests: Sequence[WriteRequest]) -> list[Any]:
        self.asked += len(requests)
        return [self._answer(each) for each in requests]

    def _answer(self, request: WriteRequest) -> Written:
        """A line for every third word and some that are none; probabilities that depend on the word."""
        words = request.text.split()
        lines, chances = [], []
        for number, word in enumerate(words):
            code = sum(map(ord, word)) + self._seed
            if code % 3 == 0:
                lines.append(f"{(*request.labels, 'O', 'X')[code % 5]} {word}")
                chances.append(-(code % 7) / 3)
            elif code % 11 == 0:
                lines.append(("PER", "nonsense here", "LOC nowhere")[number % 3])
                chances.append(-1.0)
        return Written("\n".join(lines), tuple(chances), 3 * len(lines), ended=len(words) % 2 == 0, constrained=False)


class Oracle:
    """Says what the targets of training want it to say; targets and requests are in the same order."""

    def __init__(self, codec: TokenCodec, targets: Sequence[Target]) -> None:
        self.codec = codec
        self._targets = targets

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        found = []
        for request, target in zip(requests, self._targets, strict=True):
            assert list(request.ids) == target.ids
            assert set(target.positions) <= set(request.positions)
            rows = np.zeros((len(request.positions), len(request.candidates)), dtype=np.float32)
            right = dict(zip(target.positions, target.labels, strict=True))
            for row, position in zip(rows, request.positions, strict=True):
                row[right.get(position, 0)] = 50.0
            found.append(rows)
        return found

    def write(self, requests: Sequence[WriteRequest]) -> list[Any]:
        found = []
        for request, target in zip(requests, self._targets, strict=True):
            question = len(request.ids)
            assert list(request.ids) == target.ids[:question]
            assert target.positions == list(range(question - 1, len(target.ids) - 1))
            assert target.ids[question:] == target.labels
            assert target.labels[-1] == self.codec.end
            answer = self.codec.decode(target.labels[:-1])
            found.append(Written(answer, (-1e-6,) * (answer.count("\n") + 1), len(target.labels)))
        return found
