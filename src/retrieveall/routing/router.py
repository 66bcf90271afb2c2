"""Turns votes of neighbours into adapter weights.

The router sees neighbours and adapter names, never text or models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from retrieveall.config import RoutingConfig
from retrieveall.errors import LanguageError
from retrieveall.types import Neighbour, Route

__all__ = ["Router"]


class Router:
    """Chooses adapters by the similarity-weighted vote of the nearest training sentences."""

    def __init__(self, config: RoutingConfig | None = None) -> None:
        self.config = config or RoutingConfig()

    def route(
        self, neighbours: Sequence[Neighbour], available: Collection[str], *, language: str | None = None
    ) -> Route:
        """The adapters for one input.

        A neighbour votes for its language with ``max(similarity, 0) ** power``, if ``available`` has an adapter for
        it. The first matching rule applies:

        - ``language`` is given: its adapter alone (``"fixed"``).
        - The best similarity is below ``floor``, or there are no votes (``"fallback"``): ``max_adapters`` of those
          available, weighted by any votes, or, with ``fallback="base"``, none.
        - The best share of the vote is at least ``winner``: that adapter alone (``"vote"``).
        - Otherwise the ``max_adapters`` best, weighted by their shares (``"mixture"``).

        Ties go to the alphabetically first language, so that the order of neighbours does not matter.

        Raises:
            LanguageError: ``language`` has no adapter; lists the available ones.
        """
        heard = [neighbour for neighbour in neighbours if neighbour.language in available]
        votes = self._votes(heard)
        if language is not None:
            if language not in available:
                have = ", ".join(sorted(available)) or "none"
                raise LanguageError(f"no adapter for the language {language[:80]!r}; choose one of: {have}")
            return Route({language: 1.0}, votes, "fixed")
        if not votes or max(neighbour.similarity for neighbour in heard) < self.config.floor:
            return Route(self._fallback(votes, available), votes, "fallback")
        winner = next(iter(votes))
        if votes[winner] >= self.config.winner:
            return Route({winner: 1.0}, votes, "vote")
        return Route(self._strongest(votes), votes, "mixture")

    def _votes(self, neighbours: Sequence[Neighbour]) -> dict[str, float]:
        """Vote share by language, largest first; empty without votes."""
        best = max((neighbour.similarity for neighbour in neighbours), default=0.0)
        if best <= 0:
            return {}
        votes: dict[str, float] = {}
        # Sorted, because a sum of floats depends on its order and the route must not.
        for neighbour in sorted(neighbours, key=lambda each: (each.language, each.similarity)):
            # Relative to the best, because a high power of small similarities would underflow to 0.
            vote = (max(neighbour.similarity, 0.0) / best) ** self.config.power
            votes[neighbour.language] = votes.get(neighbour.language, 0.0) + vote
        return _normalised({name: vote for name, vote in votes.items() if vote > 0})

    def _fallback(self, votes: Mapping[str, float], available: Collection[str]) -> dict[str, float]:
        if self.config.fallback == "base" or not available:
            return {}
        # Languages without votes get no share; without any votes, all get the same.
        return self._strongest(votes or _normalised(dict.fromkeys(available, 1.0)))

    def _strongest(self, votes: Mapping[str, float]) -> dict[str, float]:
        return _normalised({name: votes[name] for name in list(votes)[: self.config.max_adapters]})


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """``weights`` scaled to sum 1, largest first, ties in alphabetical order."""
    total = sum(weights.values())
    ranked = sorted(weights, key=lambda name: (-weights[name], name))
    return {name: weights[name] / total for name in ranked}
