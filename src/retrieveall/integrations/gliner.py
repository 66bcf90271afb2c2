"""The methods of GLiNER, with the labels that the model has been trained on: there are no zero-shot labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from retrieveall.errors import InputError
from retrieveall.integrations.opening import opened
from retrieveall.pipeline import RetrieveAll
from retrieveall.types import Prediction

__all__ = ["EntityPredictor"]

_SYNONYMS = {
    "person": "PER",
    "people": "PER",
    "organization": "ORG",
    "organisation": "ORG",
    "location": "LOC",
    "place": "LOC",
}


class EntityPredictor:
    """``predict_entities(text, labels, threshold)`` as in GLiNER.

    Examples:
        >>> model = EntityPredictor.from_pretrained("base")
        >>> model.predict_entities("Ada Lovelace was born in London.", ["person", "location"])
        [{'start': 0, 'end': 12, 'text': 'Ada Lovelace', 'label': 'person', 'score': 0.99}, ...]
    """

    def __init__(self, model: RetrieveAll) -> None:
        self.model = opened(model)

    @classmethod
    def from_pretrained(cls, name: str | Path = "base", **options: Any) -> Self:
        """Open a model; ``options`` are those of ``RetrieveAll.from_pretrained``."""
        return cls(RetrieveAll.from_pretrained(name, **options))

    def predict_entities(
        self, text: str, labels: Sequence[str] | None = None, threshold: float = 0.5
    ) -> list[dict[str, Any]]:
        """The entities of a text.

        Args:
            labels: labels of the model in any case, or ``person``, ``organization`` and ``location`` for PER, ORG and
                LOC; None: all. Entities carry the label as it is written here.

        Raises:
            InputError: a label that the model does not have.
        """
        return self.batch_predict_entities([text], labels, threshold)[0]

    def batch_predict_entities(
        self, texts: Sequence[str], labels: Sequence[str] | None = None, threshold: float = 0.5
    ) -> list[list[dict[str, Any]]]:
        """The entities of each text, see ``predict_entities``."""
        if not (labels is None or isinstance(labels, Iterable)) or isinstance(labels, bytes):
            raise InputError(f"expected a list of labels, got {type(labels).__name__}")
        names = {label: label for label in self.model.labels} if labels is None else self._names(labels)
        predictions = self.model.predict(texts, labels=list(names), threshold=threshold)
        return [_plain(prediction, names) for prediction in predictions]

    def _names(self, labels: Sequence[str]) -> dict[str, str]:
        """The model's labels, each with its name in ``labels``."""
        own = {label.casefold(): label for label in self.model.labels}
        names = {}
        for label in [labels] if isinstance(labels, str) else labels:
            if not isinstance(label, str):
                raise InputError(f"expected labels as strings, got {type(label).__name__}")
            found = own.get(label.casefold()) or own.get(_SYNONYMS.get(label.casefold(), "").casefold())
            if found is None:
                raise InputError(
                    f"expected labels among {', '.join(self.model.labels)}, got {label[:80]!r}: this model has no "
                    "zero-shot labels; train one with: retrieveall train DATA --from base --out FOLDER"
                )
            names[found] = label
        return names


def _plain(prediction: Prediction, names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"start": each.start, "end": each.end, "text": each.text, "label": names[each.label], "score": each.score}
        for each in prediction.entities
    ]
