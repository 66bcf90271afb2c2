"""A spaCy component: ``nlp.add_pipe("retrieveall")`` sets ``doc.ents``, scores and the language.

``span._.ner_score`` is the probability of an entity, ``doc._.ner_language`` the language whose adapter ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import minibatch

from retrieveall.errors import EngineError
from retrieveall.integrations.opening import check_options, opened

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.types import Prediction

__all__ = ["EntityComponent", "make_component"]

SCORE, LANGUAGE = "ner_score", "ner_language"
_BATCH = 256


class EntityComponent:
    """Sets the entities of documents.

    Entities are widened to whole tokens, since spaCy has no others. Those of earlier components stay where they do not
    overlap.

    Args:
        scorer: scores examples in ``nlp.evaluate``; by default that of spaCy's own ``ner``.
        options: ``language``, ``labels`` and ``threshold`` of ``RetrieveAll.predict``.

    Raises:
        InputError: no model; an unknown option, language or label.
    """

    def __init__(
        self, model: RetrieveAll, *, scorer: Callable[..., dict[str, Any]] | None = None, **options: Any
    ) -> None:
        self.model = opened(model)
        check_options(self.model, options)
        self._options = options
        self._scorer: Callable[..., dict[str, Any]] = get_ner_prf if scorer is None else scorer
        for extension, name in ((Span, SCORE), (Doc, LANGUAGE)):
            if not extension.has_extension(name):
                extension.set_extension(name, default=None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it can set."""
        return tuple(self._options.get("labels") or self.model.labels)

    def __call__(self, doc: Doc) -> Doc:
        """Set the entities of one document."""
        return next(self._batch([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = _BATCH) -> Iterator[Doc]:
        """Set the entities of a stream of documents, in batches; called by ``nlp.pipe``."""
        done = 0
        for docs in map(list, minibatch(stream, size=batch_size)):
            yield from self._batch(docs, done)
            done += len(docs)

    def score(self, examples: Iterable[Example], **options: Any) -> dict[str, Any]:
        """Precision, recall and F1 of the entities, as spaCy's own ``ner``; called by ``nlp.evaluate``."""
        return dict(self._scorer(examples, **options))

    def _batch(self, docs: Sequence[Doc], before: int = 0) -> Iterator[Doc]:
        try:
            predictions = self.model.predict([doc.text for doc in docs], **self._options)
        except EngineError as error:
            raise error.in_input([f"text {before + i}" for i in range(len(docs))], before) from None
        for doc, prediction in zip(docs, predictions, strict=True):
            _annotate(doc, prediction)
            yield doc


def _annotate(doc: Doc, prediction: Prediction) -> None:
    spans: list[Span] = []
    for entity in prediction.entities:
        span = doc.char_span(entity.start, entity.end, label=entity.label, alignment_mode="expand")
        if span is not None and (not spans or span.start >= spans[-1].end):  # two may share a token
            span._.set(SCORE, entity.score)
            spans.append(span)
    taken = {token for span in spans for token in range(span.start, span.end)}
    before = [span for span in doc.ents if taken.isdisjoint(range(span.start, span.end))]
    doc.ents = [*spans, *before]
    doc._.set(LANGUAGE, prediction.route.language)


@Language.factory(  # type: ignore[untyped-decorator]  # spaCy is not installed where types are checked
    "retrieveall",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        **{"model": "base", "language": None, "labels": None, "threshold": None, "device": None},
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    language: str | None,
    labels: list[str] | None,
    threshold: float | None,
    device: str | None,
    scorer: Callable[..., dict[str, Any]] | None,
) -> EntityComponent:
    """The component of ``nlp.add_pipe("retrieveall", config={...})``.

    Args:
        model: name of a shipped model, a folder or a hub id.
        language: use this language's adapter for all documents; by default it is found for each.
        labels: only these labels.
        threshold: only entities with at least this probability; None for the model's own threshold.
        device: torch device.
        scorer: what ``nlp.evaluate`` computes; None for that of spaCy's own ``ner``.
    """
    options = {"language": language, "labels": labels, "threshold": threshold}
    return EntityComponent(opened(model, {"device": device}), scorer=scorer, **options)
