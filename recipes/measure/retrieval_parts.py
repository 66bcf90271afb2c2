"""The measurements of ``recipes.measure.retrieval``: one encoder over the pool and the texts of all others."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from recipes.base.corpora import Corpora
from recipes.corpora import Sentences
from recipes.measure.panx import measure_panx
from recipes.measure.retrieval_encoders import RandomEncoder
from recipes.measure.running import LABELS, RunningSet, measure_running, read_running
from recipes.raw_text import raw_text
from retrieveall import RetrieveAll
from retrieveall.config import RoutingConfig
from retrieveall.data import normalise, read_corpus
from retrieveall.engines.base import Failure, ScoreRequest, Scores
from retrieveall.errors import InputError
from retrieveall.knowledge import Encoder, KnowledgeBase
from retrieveall.knowledge.context import ContextIndex, Hit, fit_scale, quantise
from retrieveall.routing import Router
from retrieveall.stages import Stages, Window
from retrieveall.types import Knowledge, LanguageMatch, Neighbour, Sentence

__all__ = ["ADDED", "Material", "Measured", "RememberingEngine", "measure_encoder", "milliseconds"]

ADDED = {"sw": 1000, "yo": 100}
"""Languages that are added to the pool one at a time, and with how many sentences."""
ADDED_TEXTS = 5
"""Times the limit of a file: validation sentences of each of them."""
SETTINGS = tuple({"weight": w, "dimension": d} for w in (0.5, 1.0, 2.0, 3.0, 4.0, 6.0) for d in (8.0, 16.0, 32.0))
"""Values of ``routing`` among which each encoder has its best."""
NEIGHBOURS = 20
ROUNDS = 3
WAYS = ("neighbours", "votes", "rules")
"""To choose a language; see ``_chosen``."""


@dataclass(frozen=True)
class Measured:
    """Texts of one language in one corpus, ``panx/LANGUAGE`` or ``LANGUAGE/CORPUS``."""

    name: str
    language: str
    sentences: tuple[Sentence, ...]

    @property
    def texts(self) -> list[str]:
        return [sentence.text for sentence in self.sentences]

    @property
    def kind(self) -> str:
        return "panx" if self.name.startswith("panx/") else "running"


class Material:
    """What every encoder gets.

    Args:
        panx: folder of LANGUAGE/{train,validation}.tsv.
        ner: folder of train/ and measure/.
        others: as ``panx``, of languages that are added or foreign; None: neither is measured.
        size: sentences of the pool a language, half of them running text where there is so much.
        limit: validation sentences of each file.
    """

    def __init__(
        self, languages: Sequence[str], panx: Path, ner: Path, others: Path | None, *, size: int, limit: int
    ) -> None:
        self.panx, self.others, self.limit = panx, others, limit
        self.own: dict[str, Knowledge] = {}
        """What the model's own knowledge finds for a window, which no encoder changes."""
        # Of a large corpus, as many sentences are read as the whole pool may have.
        corpora = Corpora(panx, ner / "train", tuple(languages), size)
        self.pool = {language: _sample(corpora.of(language, "train"), size) for language in languages}
        self.running = read_running(ner, limit=limit, languages=languages)
        corpus = Sentences(panx, "validation", tuple(languages), limit)
        self.sets = [Measured(f"panx/{language}", language, tuple(corpus.of(language))) for language in languages]
        self.sets += [Measured(each.name, each.language, _plain(each)) for each in self.running]
        there = sorted(path.name for path in others.iterdir() if path.is_dir()) if others is not None else []
        self.added = {name: count for name, count in ADDED.items() if name in there and name not in languages}
        self.foreign = [
            Measured(f"panx/{name}", name, tuple(self.read(name, "validation", max(limit // 2, 1))))
            for name in there
            if name not in languages and name not in ADDED
        ]

    @cached_property
    def letters(self) -> _Letters:
        """How texts match the languages of the pool by their letters alone."""
        return _Letters(self.pool)

    @cached_property
    def added_letters(self) -> dict[str, _Letters]:
        """As ``letters``, of each language that is added."""
        return {name: _Letters({name: sentences}) for name, sentences in self.added_pools.items()}

    @cached_property
    def added_pools(self) -> dict[str, list[Sentence]]:
        """The training sentences of each language that is added."""
        return {name: self.read(name, "train", count) for name, count in self.added.items()}

    @property
    def pool_texts(self) -> list[str]:
        return [sentence.text for own in self.pool.values() for sentence in own]

    def read(self, language: str, split: str, count: int) -> list[Sentence]:
        """The first sentences of a language that is not in the pool.

        Raises:
            InputError: there is no folder of such languages.
        """
        if self.others is None:
            raise InputError("expected --others, the folder of the languages that are added, got none")
        return list(islice(read_corpus(self.others / language / f"{split}.tsv", language=language), count))


def _sample(corpora: dict[str, list[Sentence]], size: int) -> list[Sentence]:
    """``size`` sentences, half of PAN-X and half of running text as people write it, equally of each corpus."""
    rng = random.Random(0)
    panx = corpora.pop("panx")
    share = size // 2 // len(corpora) if corpora else 0
    running = [raw_text(each).sentence for own in corpora.values() for each in rng.sample(own, min(share, len(own)))]
    return [*rng.sample(panx, min(size - len(running), len(panx))), *running]


def _plain(found: RunningSet) -> tuple[Sentence, ...]:
    return tuple(raw.sentence for raw in found.sentences)


def milliseconds(encoder: Encoder, texts: Sequence[str]) -> float:
    """Processor time of a text, all at once; the fastest round counts."""
    encoder.encode(texts[:8])
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        encoder.encode(texts)
        rounds.append(time.process_time() - started)
    return 1000 * min(rounds) / len(texts)


def measure_encoder(
    encoder: Encoder,
    material: Material,
    model: RetrieveAll,
    settings: Mapping[str, float] | None = None,
    *,
    f1: bool = True,
) -> dict[str, Any]:
    """Routing, languages that are added or foreign, nearest sentences, and the model's F1 as routed by the encoder.

    Args:
        f1: whether to measure F1, which takes longer than the rest.
        settings: values of ``routing``; None: the best of ``SETTINGS`` on these texts, see ``_grade``.
    """
    pool = _Pool(encoder, material)
    larger = {language: _LargerPool(pool, language) for language in material.added}
    routings = [model.config.routing.model_copy(update=values) for values in ([settings] if settings else SETTINGS)]
    grades = [_grade(pool, larger, routing) for routing in routings]
    routing = routings[int(np.argmax(grades))]
    return {
        "vector": encoder.dimension,
        "weight": routing.weight,
        "dimension": routing.dimension,
        "grades": [
            {"weight": each.weight, "dimension": each.dimension, "grade": grade}
            for each, grade in zip(routings, grades, strict=True)
        ],
        "routed": pool.routed(routing),
        "added": {language: each.added(routing) for language, each in larger.items()},
        "foreign": _foreign(pool, routing),
        "nearest": _nearest(pool),
        "f1": _f1(pool, model, routing) if f1 else None,
    }


def _f1(pool: _Pool, model: RetrieveAll, routing: RoutingConfig) -> dict[str, Any]:
    """F1 of the model as routed by the pool."""
    material = pool.material
    model.stages = _RoutedStages(model, pool, routing, material.own)
    panx = measure_panx(model, material.panx, tuple(material.pool), limit=material.limit)
    running = measure_running(model, material.running)
    return {
        "panx": panx["mean"]["f1"],
        "running": running["mean"]["f1"],
        "panx_by_language": {name: each["f1"] for name, each in panx["languages"].items()},
        "running_by_language": {name: each["f1"] for name, each in running["languages"].items()},
    }


class _Letters:
    """What routing needs of each language but the similarity, which an encoder gives; no text is compared twice."""

    def __init__(self, pool: Mapping[str, Sequence[Sentence]]) -> None:
        self._base = KnowledgeBase.build(pool, RandomEncoder())
        self._known: dict[str, Mapping[str, LanguageMatch]] = {}

    def of(self, texts: Sequence[str]) -> list[Mapping[str, LanguageMatch]]:
        """The match of each text with each language."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        found = self._base.retrieve(new, 1, match_languages=True, near_matches=False)
        self._known.update(zip(new, (each.languages for each in found), strict=True))
        return [self._known[text] for text in texts]


class _Pool:
    """Training sentences as an encoder sees them, and what is found for the texts of the languages of the pool.

    Vectors are kept and searched as a knowledge base does.
    """

    def __init__(self, encoder: Encoder, material: Material) -> None:
        self.encoder, self.material = encoder, material
        self.languages: tuple[str, ...] = tuple(material.pool)
        self.scale = fit_scale(encoder.encode([normalise(text).text for text in material.pool_texts]))
        self._index(material.pool, material.letters)
        self.found = {each.name: self.look_up(each.texts) for each in material.sets}

    def _index(self, pool: Mapping[str, Sequence[Sentence]], letters: _Letters) -> None:
        self._sentences, self._letters = pool, letters
        self._context = ContextIndex(self.scale)
        self._rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for language, sentences in pool.items():
            texts = [normalise(sentence.text).text for sentence in sentences]
            self._context.add(language, quantise(self.encoder.encode(texts), self.scale))
            for row, text in enumerate(texts):
                self._rows[text][language].append(row)
        self._known: dict[str, Knowledge] = {}

    def look_up(self, texts: Sequence[str]) -> list[Knowledge]:
        """The nearest sentences of each text, and how it matches each language; no text is looked up twice."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self._look_up(new), strict=True))
        return [self._known[text] for text in texts]

    def _look_up(self, texts: Sequence[str]) -> Iterator[Knowledge]:
        vectors = self.encoder.encode([normalise(text).text for text in texts])
        for (hits, best), letters in zip(
            self._context.compare(vectors, NEIGHBOURS), self._letters.of(texts), strict=True
        ):
            matches = {name: replace(match, similarity=best[name]) for name, match in letters.items()}
            yield Knowledge(tuple(map(self._neighbour, hits)), (), matches)

    def nearest(self, texts: Sequence[str]) -> list[Sentence]:
        """The nearest sentence of each text that is no copy of it."""
        normal = [normalise(text).text for text in texts]
        copies: list[Mapping[str, Sequence[int]]] = [self._rows.get(text, {}) for text in normal]
        found = self._context.search(self.encoder.encode(normal), 1, exclude=copies)
        return [self._neighbour(hits[0]).sentence for hits in found]

    def _neighbour(self, hit: Hit) -> Neighbour:
        return Neighbour(self._sentences[hit.language][hit.row], hit.similarity)

    def routed(self, routing: RoutingConfig) -> dict[str, dict[str, float]]:
        """Shares routed right of the pool's languages on PAN-X and on running text, by three ways to choose."""
        router = Router(routing)
        shares: dict[str, dict[str, dict[str, list[float]]]] = {way: {} for way in WAYS}
        for each in self.material.sets:
            for way, share in _shares(self.found[each.name], each.language, router, self.languages).items():
                shares[way].setdefault(each.kind, defaultdict(list))[each.language].append(share)
        return {
            way: {kind: fmean(map(fmean, by_language.values())) for kind, by_language in kinds.items()}
            for way, kinds in shares.items()
        }

    def right(self, routing: RoutingConfig) -> dict[str, float]:
        """As "rules" of ``routed``, which takes longer."""
        router = Router(routing)
        shares: dict[str, dict[str, list[float]]] = {}
        for each in self.material.sets:
            routes = (router.route(known.languages, self.languages) for known in self.found[each.name])
            share = fmean(route.language == each.language for route in routes)
            shares.setdefault(each.kind, defaultdict(list))[each.language].append(share)
        return {kind: fmean(map(fmean, by_language.values())) for kind, by_language in shares.items()}


class _LargerPool(_Pool):
    """A pool with a few sentences of another language.

    What it finds is what each of the two finds: a language leaves the matches of the others as they are.
    """

    def __init__(self, pool: _Pool, language: str) -> None:
        material = self.material = pool.material
        self.encoder, self.scale, self._pool, self.language = pool.encoder, pool.scale, pool, language
        self.languages = (*pool.languages, language)
        self._index({language: material.added_pools[language]}, material.added_letters[language])
        self.found = {each.name: self.look_up(each.texts) for each in material.sets}
        self.texts = [each.text for each in material.read(language, "validation", ADDED_TEXTS * material.limit)]

    def look_up(self, texts: Sequence[str]) -> list[Knowledge]:
        """As that of a pool."""
        return [_joined(*pair) for pair in zip(self._pool.look_up(texts), super().look_up(texts), strict=True)]

    def added(self, routing: RoutingConfig) -> dict[str, Any]:
        """Routes of the texts of the language that was added, and of those of the others beside it."""
        found, router = self.look_up(self.texts), Router(routing)
        routes = [router.route(known.languages, self.languages) for known in found]
        return {
            "texts": len(found),
            **_shares(found, self.language, router, self.languages),
            "takes_part": fmean(self.language in route.adapters for route in routes),
            "unknown": fmean(route.reason == "unknown" for route in routes),
            "others": self.right(routing),
        }


def _joined(first: Knowledge, second: Knowledge) -> Knowledge:
    neighbours = sorted((*first.neighbours, *second.neighbours), key=lambda each: -each.similarity)[:NEIGHBOURS]
    return Knowledge(tuple(neighbours), (), {**first.languages, **second.languages})


def _grade(pool: _Pool, larger: Mapping[str, _LargerPool], routing: RoutingConfig) -> float:
    """The mean of the shares routed right on PAN-X, on running text and in the languages that are added.

    The first two are those of the pool with each of the languages that are added, if any are.
    """
    if not larger:
        return fmean(pool.right(routing).values())
    added = [each.added(routing) for each in larger.values()]
    others = [share for each in added for share in each["others"].values()]
    return (2 * fmean(others) + fmean(each["rules"] for each in added)) / 3


def _shares(found: Sequence[Knowledge], language: str, router: Router, languages: Sequence[str]) -> dict[str, float]:
    """The shares of texts for which each of the ways to choose a language is right."""
    rows = [_chosen(known, router, languages) for known in found]
    return {way: fmean(row[way] == language for row in rows) for way in WAYS}


def _chosen(known: Knowledge, router: Router, languages: Sequence[str]) -> dict[str, str | None]:
    """The language of most of the nearest sentences, that with the most votes, and that of the route."""
    neighbours: dict[str, float] = defaultdict(float)
    for each in known.neighbours:
        neighbours[each.sentence.language or ""] += each.similarity
    route = router.route(known.languages, languages)
    return {
        "neighbours": max(neighbours, key=lambda name: neighbours[name], default=None),
        "votes": next(iter(route.votes), None),
        "rules": route.language,
    }


def _foreign(pool: _Pool, routing: RoutingConfig) -> dict[str, Any]:
    """How languages outside of the pool are told from those in it.

    "unknown" is what the rules call so, by letters alone; "auc" how well the similarity of the nearest sentence tells
    a text of such a language from one of PAN-X in the pool: the share of pairs in which the latter has the larger one;
    and "letters" how well the fit of the letters does.
    """
    material, router = pool.material, Router(routing)
    if not material.foreign:
        return {}
    inside = [known for each in material.sets if each.kind == "panx" for known in pool.found[each.name]]
    found: dict[str, dict[str, float]] = {"unknown": {}, "auc": {}, "letters": {}}
    for each in material.foreign:
        outside = pool.look_up(each.texts)
        routes = [router.route(known.languages, pool.languages) for known in outside]
        found["unknown"][each.language] = fmean(route.reason == "unknown" for route in routes)
        for key, value in (("auc", _similarity), ("letters", _fit)):
            found[key][each.language] = _auc(list(map(value, inside)), list(map(value, outside)))
    return {key: own | {"mean": fmean(own.values())} for key, own in found.items()}


def _similarity(known: Knowledge) -> float:
    return max((match.similarity for match in known.languages.values()), default=0.0)


def _fit(known: Knowledge) -> float:
    return max((match.fit or 0.0 for match in known.languages.values()), default=0.0)


def _auc(larger: Sequence[float], smaller: Sequence[float]) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([larger, smaller]))
    count = len(larger)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(smaller)))


def _nearest(pool: _Pool) -> dict[str, dict[str, float]]:
    """Of the texts with an entity: how often the nearest sentence, no copy of the text, has one of its labels, one of
    its mentions, and its language.
    """
    shares: dict[str, list[dict[str, float]]] = defaultdict(list)
    for each in pool.material.sets:
        named = [sentence for sentence in each.sentences if _labels(sentence)]
        if not named:
            continue
        pairs = list(zip(named, pool.nearest([sentence.text for sentence in named]), strict=True))
        shares[each.kind].append(
            {
                "label": fmean(bool(_labels(own) & _labels(other)) for own, other in pairs),
                "mention": fmean(bool(_mentions(own) & _mentions(other)) for own, other in pairs),
                "language": fmean(each.language == other.language for _, other in pairs),
            }
        )
    return {kind: {key: fmean(one[key] for one in own) for key in own[0]} for kind, own in shares.items()}


def _labels(sentence: Sentence) -> set[str]:
    return {entity.label for entity in sentence.entities} & set(LABELS)


def _mentions(sentence: Sentence) -> set[str]:
    return {sentence.text[entity.start : entity.end].casefold() for entity in sentence.entities}


class _RoutedStages(Stages):
    """The stages of a model, but for what routes: another pool, and its settings.

    ``own`` is filled with what the model's knowledge finds, which no other pool changes.
    """

    def __init__(self, model: RetrieveAll, pool: _Pool, routing: RoutingConfig, own: dict[str, Knowledge]) -> None:
        config = model.config.model_copy(update={"routing": routing})
        super().__init__(config, model.knowledge, model.engine.codec, languages=model.languages)
        self._pool, self._own = pool, own

    def retrieve(
        self, windows: Sequence[Window], *, exclude: Sequence[Sentence | None] | None = None, votes: bool = True
    ) -> list[Knowledge]:
        """As ``Stages.retrieve``; nothing is excluded."""
        new = list({window.text: window for window in windows if window.text not in self._own}.values())
        self._own.update(zip([each.text for each in new], super().retrieve(new, votes=False), strict=True))
        texts = [window.text for window in windows]
        pairs = zip(texts, self._pool.look_up(texts), strict=True)
        return [replace(self._own[text], languages=found.languages) for text, found in pairs]


class RememberingEngine:
    """An engine that scores no request twice: most texts have the same adapters whatever routes them."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._known: dict[Any, Scores | Failure] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """As the engine's."""
        keys = [_key(request) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._known}
        self._known.update(zip(new, self._engine.score(list(new.values())), strict=True))
        return [self._known[key] for key in keys]


def _key(request: ScoreRequest) -> tuple[Any, ...]:
    adapters = tuple(sorted(request.adapters.items()))
    return tuple(request.ids), tuple(request.positions), tuple(request.candidates), adapters
