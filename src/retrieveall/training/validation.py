"""Validation during and after training: the stages and the decoder of inference, with the gold language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from retrieveall.data import normalise_sentence
from retrieveall.decoders import Decoder
from retrieveall.engines import Engine
from retrieveall.evaluation.calibrate import Judged, judge
from retrieveall.evaluation.spans import Counts
from retrieveall.stages import Stages
from retrieveall.training.parallel import Processes
from retrieveall.types import Route, Sentence

__all__ = ["LanguageScore", "Validation", "best_scaling"]

Adapters = Callable[[str], Mapping[str, float]]
"""Which adapters a language runs with."""


@dataclass
class LanguageScore:
    """Counts of the entities of one language, and those that were found."""

    counts: Counts = field(default_factory=Counts)
    judged: list[Judged] = field(default_factory=list)


class Validation:
    """Gold sentences whose prompts are made once and run as often as wanted.

    Args:
        sentences: with ``language`` set.
        uneven: entered while processes may run unequal numbers of batches, see ``Shards``.
    """

    def __init__(
        self,
        stages: Stages,
        decoder: Decoder,
        sentences: Sequence[Sentence],
        processes: Processes,
        uneven: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._decoder, self._processes, self._uneven = decoder, processes, uneven
        self._languages = [sentence.language or "" for sentence in sentences]
        entities = (normalise_sentence(sentence).entities for sentence in sentences)
        self._gold = [{(each.start, each.end, each.label) for each in some} for some in entities]
        windows = stages.window([sentence.text for sentence in sentences])
        prompts = stages.prompt(windows, stages.retrieve(windows, votes=False))
        self._requests = list(zip(windows, prompts, strict=True))

    def run(self, engine: Engine, adapters: Adapters, limit: int | None = None) -> dict[str, LanguageScore]:
        """The score of each language; all processes must call this alike.

        Args:
            limit: only the first so many sentences of each language.

        Raises:
            EngineError: a request failed.
        """
        chosen = self._first(limit)
        share = self._processes.deal(chosen)
        # What was compiled for the batches of training has one shape; these have many.
        with torch.compiler.set_stance("force_eager"), self._uneven():
            own = self._judge(engine, adapters, share)
        scores: dict[str, LanguageScore] = {language: LanguageScore() for language in self._languages}
        for number, rows in zip(chosen, self._processes.collect(own), strict=True):
            judged = [Judged(*row) for row in rows]
            score = scores[self._languages[number]]
            score.counts += Counts(sum(each.correct for each in judged), len(judged), len(self._gold[number]))
            score.judged += judged
        return scores

    def _first(self, limit: int | None) -> list[int]:
        seen: dict[str, int] = {}
        chosen = []
        for number, language in enumerate(self._languages):
            seen[language] = seen.get(language, 0) + 1
            if limit is None or seen[language] <= limit:
                chosen.append(number)
        return chosen

    def _judge(self, engine: Engine, adapters: Adapters, numbers: Iterable[int]) -> list[list[Judged]]:
        places = {number: place for place, number in enumerate(numbers)}
        own = [(window, prompt) for window, prompt in self._requests if window.document in places]
        windows = [replace(window, document=places[window.document]) for window, _ in own]
        gold = [self._gold[number] for number in places]
        routes = [Route(adapters(self._languages[window.document]), reason="fixed") for window, _ in own]
        readings = self._decoder.decode(engine, windows, [prompt for _, prompt in own], routes)
        return judge(windows, readings, gold)


def best_scaling(
    validation: Validation, engine: Engine, languages: Sequence[str], multiples: Sequence[float]
) -> dict[str, float]:
    """For each language the multiple of its adapter's scaling with the best F1; the first of equal ones.

    Weights half way between a model and its fine-tuned form are often better than both (Wortsman et al. 2022).
    """
    if len(multiples) == 1:
        return dict.fromkeys(languages, multiples[0])
    best = dict.fromkeys(languages, (-1.0, multiples[0]))
    for multiple in multiples:
        scores = validation.run(engine, lambda language, multiple=multiple: {language: multiple})  # type: ignore[misc]
        for language, score in scores.items():
            if score.counts.f1 > best[language][0]:
                best[language] = score.counts.f1, multiple
    return {language: multiple for language, (_, multiple) in best.items()}
