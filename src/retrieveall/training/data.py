"""The gold sentences of a run, by language."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retrieveall.data import check_labels
from retrieveall.errors import InputError
from retrieveall.types import Sentence

__all__ = ["LanguageData", "Progress", "check_data", "describe", "digest", "in_language"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


@dataclass(frozen=True)
class LanguageData:
    """The gold sentences of one language.

    ``knowledge`` are those that may be retrieved, ``train`` those that are trained on where they are not the same,
    for instance with sentences without entities added.
    """

    train: Sequence[Sentence]
    validation: Sequence[Sentence] = field(default_factory=tuple)
    knowledge: Sequence[Sentence] | None = None

    @property
    def pool(self) -> Sequence[Sentence]:
        return self.train if self.knowledge is None else self.knowledge


def in_language(sentences: Iterable[Sentence], language: str) -> list[Sentence]:
    """The sentences, labelled as ``language``: that is how the knowledge base knows a sentence again."""
    return [each if each.language == language else replace(each, language=language) for each in sentences]


def check_data(data: Mapping[str, LanguageData], labels: Sequence[str]) -> None:
    """Refuse sentences without any entity, and labels that the model does not have.

    Raises:
        InputError: names the language, or the label and the sentence.
    """
    for language, own in sorted(data.items()):
        if not any(sentence.entities for sentence in own.train):
            raise InputError(
                f"expected {language} training sentences with entities, got {len(own.train):,} sentences without any; "
                f"check how the file was read with retrieveall validate"
            )
        check_labels((*own.train, *own.validation), labels, language, "relabel it, or train a model with that label")


def digest(sentences: Iterable[Sentence]) -> str:
    """SHA-256 over texts, entities, languages and ids."""
    found = hashlib.sha256()
    for each in sentences:
        spans = [(entity.start, entity.end, entity.label) for entity in each.entities]
        line = f"{each.text}\0{spans}\0{each.language}\0{each.id}\0"
        found.update(line.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def describe(sentences: Sequence[Sentence]) -> dict[str, int | str]:
    """What an adapter card says of the training data."""
    return {
        "sentences": len(sentences),
        "entities": sum(len(sentence.entities) for sentence in sentences),
        "sha256": digest(sentences),
    }
