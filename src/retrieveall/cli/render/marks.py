"""Routes and counts as text, for display. Escaping for HTML is left to the caller."""

from __future__ import annotations

from collections.abc import Mapping

from retrieveall.types import NO_LETTERS, KnownEntity, Prediction

__all__ = ["counts_line", "likeness", "route_line", "shares"]


def route_line(prediction: Prediction) -> str:
    """The adapters with their weights, why they were chosen, the votes, and windows in an unknown language."""
    route, unknown = prediction.route, prediction.unknown_windows
    if route.reason == NO_LETTERS:
        return "no letters, the model did not run"
    votes = f" · votes {shares(route.votes)}" if route.votes else ""
    parts = f" · {unknown:,} of {prediction.windows:,} windows unknown" if 0 < unknown < prediction.windows else ""
    return f"adapters {shares(route.adapters) or 'none, the backbone alone'} ({route.reason}){votes}{parts}"


def shares(weights: Mapping[str, float]) -> str:
    """``de 0.83, en 0.17``, the largest first."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {weight:.2f}" for name, weight in ordered)


def likeness(known: KnownEntity) -> str:
    """The similarity of a match, or ``part`` for a partial match."""
    return "part" if known.partial else f"{known.similarity:.3f}"


def counts_line(known: KnownEntity) -> str:
    """``LOC 12 en, LOC 3 de``: the mention's training counts by label and language."""
    return ", ".join(
        f"{label} {count} {language}"
        for language, by_label in known.counts.items()
        for label, count in by_label.items()
    )
