"""Turns a text's match with each language into adapter weights.

The router sees numbers and adapter names, never text or models.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from retrieveall.config import RoutingConfig
from retrieveall.errors import LanguageError
from retrieveall.types import LanguageMatch, Route

__all__ = ["Router"]

_NEAREST = 0.05  # added to a distance, so that a copy of the text in one language does not silence the letters
_LEAST_VOTE = 0.005  # of all votes; less is none
_FOREIGN = 0.8  # share of letters in other scripts up to which a text may be in a language


class Router:
    """Chooses adapters by the nearest sentence of every language and by the letters of the text.

    A language has the score

        L - w * (d/2 * log(1.05 - s) + log(n))

    with L the log-probability of the text's letters under its character model, s the similarity of its nearest
    sentence, n its number of different sentences and w a weight. Its vote is its share of
    ``softmax(score / temperature)``.

    What w multiplies is, but for its sign, the logarithm of a density that is estimated from one neighbour in d
    dimensions (Loftsgaarden and Quesenberry 1965). Among n sentences the nearest is at a distance of about
    ``n ** (-1/d)``, and ``log(n)`` takes that advantage of a large language away.
    """

    def __init__(self, config: RoutingConfig | None = None) -> None:
        self.config = config or RoutingConfig()

    def route(
        self, matches: Mapping[str, LanguageMatch], available: Collection[str], *, language: str | None = None
    ) -> Route:
        """The adapters for one input. Only languages with an adapter, those of ``available``, count.

        The first matching rule applies:

        - ``language`` is given: its adapter alone (``"fixed"``).
        - The text has no letters, or there is nothing to compare it with (``"fallback"``): the ``max_adapters`` best,
          or without votes any; with ``fallback="base"``, none.
        - The text is unlike every language (``"unknown"``), see ``_is_unknown``: the ``max_adapters`` best; none with
          ``unknown_runs="base"``. From here on only languages count that write at least a fifth of its letters, if
          any does.
        - The best share of the vote is at least ``winner``: that adapter alone (``"vote"``).
        - Otherwise the ``max_adapters`` best, weighted by their shares (``"mixture"``).

        Ties go to the alphabetically first language.

        Raises:
            LanguageError: ``language`` has no adapter; lists the available ones.
        """
        heard = {name: matches[name] for name in sorted(matches) if name in available}
        votes = self._votes(heard)
        if language is not None:
            if language not in available:
                have = ", ".join(sorted(available)) or "none"
                raise LanguageError(f"no adapter for the language {language[:80]!r}; choose one of: {have}")
            return Route({language: 1.0}, votes, "fixed")
        if all(match.fit is None for match in heard.values()):
            return Route(self._fallback(votes, available), votes, "fallback")
        possible = {name: match for name, match in heard.items() if match.fit is not None and match.foreign <= _FOREIGN}
        if self._is_unknown(possible):
            # A backbone that was never taught the labels finds nothing, and any adapter knows what a name is.
            return Route({} if self.config.unknown_runs == "base" else self._strongest(votes), votes, "unknown")
        votes = self._votes(possible or heard)
        winner = next(iter(votes))
        if votes[winner] >= self.config.winner:
            return Route({winner: 1.0}, votes, "vote")
        return Route(self._strongest(votes), votes, "mixture")

    def _votes(self, matches: Mapping[str, LanguageMatch]) -> dict[str, float]:
        """Vote share by language, largest first; empty without matches."""
        scores = {name: self._score(match) / self.config.temperature for name, match in matches.items()}
        best = max(scores.values(), default=0.0)
        votes = _normalised({name: math.exp(score - best) for name, score in scores.items()})
        return _normalised({name: vote for name, vote in votes.items() if vote >= _LEAST_VOTE})

    def _score(self, match: LanguageMatch) -> float:
        if not self.config.dimension:
            return match.likelihood
        distance = math.log(1 + _NEAREST - match.similarity)
        density = -self.config.dimension / 2 * distance - math.log(match.sentences)
        return match.likelihood + self.config.weight * density

    def _is_unknown(self, possible: Mapping[str, LanguageMatch]) -> bool:
        """Whether the text is in none of the languages, of which ``possible`` write at least a fifth of its letters.

        That is so if every language has less than a fifth of its letters in a script of its own, or finds those that
        are more than ``unknown`` standard deviations less likely than usual. A few letters of a known script are never
        that unlikely: the deviation grows with their number.
        """
        if self.config.unknown is None:
            return False
        return max((match.fit or 0.0 for match in possible.values()), default=-math.inf) < -self.config.unknown

    def _fallback(self, votes: Mapping[str, float], available: Collection[str]) -> dict[str, float]:
        if self.config.fallback == "base" or not available:
            return {}
        return self._strongest(votes or _normalised(dict.fromkeys(available, 1.0)))

    def _strongest(self, votes: Mapping[str, float]) -> dict[str, float]:
        return _normalised({name: votes[name] for name in list(votes)[: self.config.max_adapters]})


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """``weights`` scaled to sum 1, largest first, ties in alphabetical order."""
    total = sum(weights.values())
    ranked = sorted(weights, key=lambda name: (-weights[name], name))
    return {name: weights[name] / total for name in ranked}
