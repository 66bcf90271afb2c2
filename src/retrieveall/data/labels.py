"""Checks that entities use only known labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from retrieveall.errors import InputError
from retrieveall.types import Sentence

__all__ = ["check_label", "check_labels"]


def check_label(label: str, known: Collection[str]) -> None:
    """Reject a label that is not in ``known``.

    Raises:
        InputError: names the label.
    """
    if label not in known:
        raise InputError(
            f"expected one of the labels {', '.join(known)}, got {label!r}; "
            "add it to the labels of the configuration or map it to one of them"
        )


def check_labels(sentences: Iterable[Sentence], known: Collection[str], language: str, remedy: str) -> None:
    """Reject the first label that is not in ``known``; ``remedy`` is the last clause of the message.

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
