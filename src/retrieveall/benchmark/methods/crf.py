"""A linear-chain CRF of each language (Lafferty et al. 2001) with the usual features of named entity recognition.

What a user without a neural model would take: python-crfsuite (Okazaki 2007), L-BFGS with elastic net.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from retrieveall.benchmark.methods.base import Found, InProcess, Job, to_entities
from retrieveall.data import segment, spans_to_tags, tags_to_spans, to_word_spans
from retrieveall.errors import MissingExtraError
from retrieveall.types import Sentence, Word

__all__ = ["CrfRunner", "features"]


def features(words: Sequence[Word]) -> list[list[str]]:
    """The features of each word: its form, affixes and shape, and those of its two neighbours on each side."""
    own = [_own(word.text) for word in words]
    found = []
    for number, word in enumerate(words):
        row = ["bias", *own[number], f"space={word.space_before}"]
        for offset in (-2, -1, 1, 2):
            place = number + offset
            if 0 <= place < len(words):
                form = words[place].text
                row += [f"{offset}:form={form.casefold()}", f"{offset}:shape={_shape(form)}"]
            else:
                row.append(f"{offset}:none")
        for first, second in ((-1, 0), (0, 1)):
            if number + first >= 0 and number + second < len(words):
                pair = words[number + first].text.casefold(), words[number + second].text.casefold()
                row.append(f"{first}{second}:forms={pair[0]} {pair[1]}")
        found.append(row)
    return found


def _own(form: str) -> list[str]:
    lower = form.casefold()
    row = [f"form={form}", f"lower={lower}", f"shape={_shape(form)}", f"short={_shape(form, collapse=True)}"]
    row += [f"prefix={lower[:n]}" for n in (1, 2, 3, 4) if len(lower) >= n]
    row += [f"suffix={lower[-n:]}" for n in (1, 2, 3, 4) if len(lower) >= n]
    if form.istitle():
        row.append("title")
    if form.isupper():
        row.append("upper")
    if any(character.isdigit() for character in form):
        row.append("digit")
    return row


_CLASSES = {"Lu": "X", "Lt": "X", "Ll": "x", "Nd": "9"}


def _shape(form: str, *, collapse: bool = False) -> str:
    """Capitals X, small letters x, digits 9, other letters by their script's name, anything else as it is."""
    shape: list[str] = []
    for character in form:
        category = unicodedata.category(character)
        sign = _CLASSES.get(category)
        if sign is None:
            sign = unicodedata.name(character, "?").split()[0] if category[0] == "L" else character
        if not collapse or not shape or shape[-1] != sign:
            shape.append(sign)
    return "".join(shape)


class CrfRunner(InProcess):
    """One CRF for each language of the job."""

    def __init__(self, job: Job) -> None:
        self._job, self._method = job, job.method
        self._crfsuite = _import()
        self._taggers: dict[str, Any] = {}

    def fit(self) -> None:
        for language, corpus in self._job.corpora.items():
            trainer = self._crfsuite.Trainer(algorithm="lbfgs", verbose=False)
            trainer.set_params(
                {
                    "c1": self._method.c1,
                    "c2": self._method.c2,
                    "max_iterations": self._method.iterations,
                    "feature.possible_transitions": True,
                }
            )
            for sentence in corpus.train:
                self._append(trainer, sentence)
            trainer.train(self._path(language))

    def open(self) -> None:
        for language in self._job.corpora:
            self._taggers[language] = self._crfsuite.Tagger()
            self._taggers[language].open(self._path(language))

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        return [Found(self._entities(language, text)) for text in texts]

    def trained_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._job.folder.glob("*.crfsuite"))

    def _append(self, trainer: Any, sentence: Sentence) -> None:
        words = segment(sentence.text, particles=self._job.particles)
        if words:
            tags = spans_to_tags(to_word_spans(words, sentence.entities), len(words))
            trainer.append(features(words), tags)

    def _entities(self, language: str, text: str) -> Any:
        words = segment(text, particles=self._job.particles)
        tags = self._taggers[language].tag(features(words)) if words else []
        return to_entities(text, words, tags_to_spans(tags))

    def _path(self, language: str) -> str:
        return str(self._job.folder / f"{language}.crfsuite")


def _import() -> Any:
    try:
        import pycrfsuite
    except ImportError:
        raise MissingExtraError("python-crfsuite", "benchmark", "the CRF") from None
    return pycrfsuite
