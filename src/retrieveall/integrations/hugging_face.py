"""The shapes of Hugging Face: a token-classification pipeline, and a function for ``Dataset.map``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from retrieveall.errors import InputError
from retrieveall.integrations.opening import check_options, opened

if TYPE_CHECKING:
    from pathlib import Path

    from retrieveall.pipeline import RetrieveAll
    from retrieveall.types import Entity

__all__ = ["TokenClassifier", "map_entities"]


class TokenClassifier:
    """Called like ``pipeline("token-classification", aggregation_strategy="simple")``.

    Examples:
        >>> classify = TokenClassifier("base")
        >>> classify("Ada Lovelace was born in London.")
        [{'entity_group': 'PER', 'score': 0.99, 'word': 'Ada Lovelace', 'start': 0, 'end': 12}, ...]

    Args:
        model: an opened model, or what ``RetrieveAll.from_pretrained`` opens with ``options``.
    """

    task = "token-classification"

    def __init__(self, model: RetrieveAll | str | Path = "base", **options: Any) -> None:
        self.model = opened(model, options)

    @overload
    def __call__(self, inputs: str, **options: Any) -> list[dict[str, Any]]: ...
    @overload
    def __call__(self, inputs: Sequence[str], **options: Any) -> list[list[dict[str, Any]]]: ...
    @overload
    def __call__(self, inputs: Iterable[str], **options: Any) -> Iterator[list[dict[str, Any]]]: ...

    def __call__(self, inputs: Any, *, batch_size: int = 256, **options: Any) -> Any:
        """The entities of a text, of each of several texts, or lazily those of a stream of texts.

        Args:
            options: ``language``, ``labels`` and ``threshold`` of ``RetrieveAll.predict``.

        Raises:
            InputError: as ``RetrieveAll.predict``; an unknown option.
        """
        check_options(self.model, options)
        if isinstance(inputs, str):
            return _aggregated(self.model.predict(inputs, **options)[0].entities)
        found = self.model.stream(inputs, batch_size=batch_size, **options)
        results = (_aggregated(prediction.entities) for prediction in found)
        return list(results) if isinstance(inputs, Sequence) else results


def _aggregated(entities: Iterable[Entity]) -> list[dict[str, Any]]:
    return [
        {"entity_group": each.label, "score": each.score, "word": each.text, "start": each.start, "end": each.end}
        for each in entities
    ]


def map_entities(
    model: RetrieveAll, column: str = "text", **options: Any
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function for ``dataset.map(...)`` that adds the columns ``entities`` and ``language``.

    ``batched=True`` is much faster.

    Examples:
        >>> dataset.map(map_entities(model, "review"), batched=True)

    Args:
        column: the column of the texts; null is an empty text.
        options: ``language``, ``labels`` and ``threshold`` of ``RetrieveAll.predict``.

    Raises:
        InputError: no opened model; an unknown option, language or label.
    """
    model = opened(model)
    check_options(model, options)

    def add(batch: Mapping[str, Any]) -> dict[str, Any]:
        if column not in batch:
            raise InputError(f"expected the column {column!r}, there are {', '.join(map(str, batch))}")
        texts = batch[column]
        one = texts is None or isinstance(texts, str)  # without batched=True
        predictions = model.predict([text or "" for text in ([texts] if one else texts)], **options)
        plain = [prediction.to_dict() for prediction in predictions]
        return {name: plain[0][name] if one else [each[name] for each in plain] for name in ("entities", "language")}

    return add
