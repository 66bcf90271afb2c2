"""Whether sentences have only the labels that a model knows. Knows no model."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from retrieveall.errors import InputError
from retrieveall.types import Sentence

__all__ = ["check_labels"]


def check_labels(sentences: Iterable[Sentence], known: Collection[str], language: str, remedy: str) -> None:
    """Refuse the first label that is not in ``known``; ``remedy`` ends the message and says what to do.

    Raises:
        InputError: names the label and the sentence.
    """
    for sentence in sentences:
        for entity in sentence.entities:
            if entity.label not in known:
                raise InputError(
                    f"expected the labels {', '.join(known)} in the {language} sentences, got {entity.label!r} "
                    f"in {sentence.id or sentence.text[:60]!r}; {remedy}"
                )
