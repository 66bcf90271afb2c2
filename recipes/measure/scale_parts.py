"""The measurements of ``recipes.measure.scale``: retrieval from random sentences, scoring with random adapters."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from retrieveall.evaluation import Provenance, peak_memory
from retrieveall.knowledge import KnowledgeBase, make_encoder
from retrieveall.types import Entity, Sentence

__all__ = ["RandomText", "measure_adapters", "measure_sentences"]

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
"""Names only: the words are made of random syllables, others in each language."""
WORDS = 20
BATCH = 64
_VOCABULARY = 50_000
_SYLLABLES = 60
_FITTED_ON = 20_000
_TOKENS = 46
"""Of a request: what texts of 20 words have with ``base``, the prompt included, on the average of eight languages."""


class RandomText:
    """Sentences of 20 words in which the n-th most frequent word has the frequency 1 / n, and one known name each."""

    def __init__(self, language: str, seed: int = 0) -> None:
        words = random.Random(language)  # the words of a language are the same in the knowledge and in new texts
        syllables = ["".join(words.sample("abcdefghijklmnoprstuvwz", words.choice((2, 3)))) for _ in range(_SYLLABLES)]
        self._words = ["".join(words.choices(syllables, k=words.choice((1, 2, 3)))) for _ in range(_VOCABULARY)]
        shares = np.cumsum(1 / np.arange(1, _VOCABULARY + 1))
        self._shares = shares / shares[-1]
        self._draw = np.random.default_rng([seed, *language.encode()])
        self.language = language

    def sentences(self, count: int, names: int) -> Iterator[Sentence]:
        """Sentences with one of ``names`` names each."""
        for number in range(count):
            words = [self._words[i] for i in self._some(WORDS)]
            first, second = divmod(int(self._draw.integers(names)), 1000)
            at = number % (WORDS - 1)
            words[at] = self._words[first].capitalize()
            words[at + 1] = self._words[second].capitalize()
            start = sum(len(word) + 1 for word in words[:at])
            mention = f"{words[at]} {words[at + 1]}"
            entity = Entity(start, start + len(mention), ("PER", "ORG", "LOC")[first % 3], mention)
            yield Sentence(" ".join(words), (entity,), self.language, f"{self.language}:{number}")

    def _some(self, count: int) -> Any:
        return np.searchsorted(self._shares, self._draw.random(count))


def measure_sentences(count: int, texts: int, rounds: int) -> dict[str, Any]:
    """Retrieval as ``predict`` does it, from ``count`` sentences of eight languages that were read from disk."""
    with tempfile.TemporaryDirectory() as folder:
        started = _seconds_of_children()
        builder = get_context("spawn").Process(target=build_index, args=(count, folder))
        builder.start()  # a process of its own: its memory is not that of one which only reads
        builder.join()
        if builder.exitcode:
            raise SystemExit(f"building the index failed with status {builder.exitcode}")
        built = _seconds_of_children() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        new = [each.text for each in _new_texts(count, texts)]
        started = time.process_time()
        base = KnowledgeBase.open(folder, verify=False)
        retrieve(base, new[:1])
        opened = time.process_time() - started
        seconds = _fastest(lambda: retrieve(base, new), rounds)
    return {
        "ms_a_text": round(1000 * seconds / len(new), 2),
        "open_seconds": round(opened, 2),
        "index_seconds": round(built, 1),
        "files_mb": round(size / 1e6, 1),
        **_origin(),
    }


def build_index(count: int, folder: str) -> None:
    """Write the knowledge of ``count`` random sentences."""
    each = max(1, count // len(LANGUAGES))

    def of(language: str) -> list[Sentence]:
        return list(RandomText(language).sentences(each, _names(count)))

    fitted = max(1, min(each, _FITTED_ON // len(LANGUAGES)))
    some = [s.text for name in LANGUAGES for s in RandomText(name).sentences(fitted, 1000)]
    base = KnowledgeBase.build({LANGUAGES[0]: of(LANGUAGES[0])}, make_encoder("ngram", some))
    for language in LANGUAGES[1:]:  # one at a time, so that only one is in memory as objects
        base.add_language(language, of(language))
    base.save(folder)


def _names(count: int) -> int:
    """Distinct names of a language: every other sentence has a new one."""
    return max(1000, min(count // len(LANGUAGES) // 2, 1000 * _VOCABULARY))


def _new_texts(count: int, texts: int) -> list[Sentence]:
    own = [list(RandomText(name, seed=1).sentences(-(-texts // len(LANGUAGES)), _names(count))) for name in LANGUAGES]
    return [each for row in zip(*own, strict=True) for each in row][:texts]


def retrieve(base: KnowledgeBase, texts: Sequence[str]) -> None:
    """The call that ``predict`` makes with the settings of ``base``."""
    for first in range(0, len(texts), BATCH):
        base.retrieve(texts[first : first + BATCH], 20, partial_matches=True, match_languages=True)


def measure_adapters(model: str, count: int, rank: int, texts: int, rounds: int) -> dict[str, Any]:
    """Scoring of one call in which the rows take ``count`` adapters in turn: all in memory, then 64 of them."""
    from retrieveall.adapters import AdapterPool
    from retrieveall.engines.local.engine import LocalEngine
    from retrieveall.model_folder import ModelFolder

    folder = ModelFolder.open(model, verify=False)
    engine = LocalEngine.open(folder.config, folder.path, device="cpu")
    pool = engine.bank.pool
    assert pool is not None
    names = [f"x{number}" for number in range(count)]
    requests = _requests(names, max(texts, count))
    with tempfile.TemporaryDirectory() as target:
        _write_adapters(pool, folder.languages()[0], names, rank, Path(target))
        engine.bank.pool = AdapterPool(Path(target), pool.fingerprint)
        held = engine.bank.max_loaded
        from_disk = _fastest(lambda: engine.score(requests), rounds)
        engine.bank.max_loaded = count
        engine.bank.ensure(names)
        in_memory = _fastest(lambda: engine.score(requests), rounds)
    return {
        "ms_a_text": round(1000 * in_memory / len(requests), 2),
        "ms_a_text_from_disk": round(1000 * from_disk / len(requests), 2),
        "loaded_from_disk": held,
        "rank": rank,
        "texts": len(requests),
        "tokens_a_text": _TOKENS,
        "model": folder.config.name,
        **_origin(),
    }


def _requests(names: Sequence[str], count: int) -> list[Any]:
    from retrieveall.engines.base import ScoreRequest

    draw = random.Random(0)
    positions = tuple(range(_TOKENS - WORDS - 1, _TOKENS - 1))
    return [
        ScoreRequest(
            [draw.randrange(20, 300) for _ in range(_TOKENS)],
            positions,
            tuple(range(4, 17)),
            {names[number % len(names)]: 1.0},
        )
        for number in range(count)
    ]


def _write_adapters(pool: Any, like: str, names: Sequence[str], rank: int, folder: Path) -> None:
    """Adapters of random numbers, on the layers of an adapter of the model."""
    import torch

    from retrieveall.adapters import AdapterPool, LoraLayer, LoraShape, LoraWeights

    known, card = pool.load(like), pool.card(like)
    shape = LoraShape(rank, 2.0 * rank, target_modules=known.shape.target_modules)
    for number, name in enumerate(names):
        draw = torch.Generator().manual_seed(number)

        def random_layer(layer: LoraLayer, draw: torch.Generator = draw) -> LoraLayer:
            a = torch.randn(rank, layer.a.shape[1], generator=draw) * 0.02
            return LoraLayer(a, torch.randn(layer.b.shape[0], rank, generator=draw) * 0.02, 2.0)

        layers = {module: random_layer(layer) for module, layer in known.layers.items()}
        AdapterPool.save(folder / "adapters" / name, LoraWeights(shape, layers), _card(card, name, rank))


def _card(like: Any, name: str, rank: int) -> Any:
    from dataclasses import replace

    return replace(like, language=name, rank=rank, alpha=2.0 * rank)


def _fastest(run: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _seconds_of_children() -> float:
    """Processor seconds of the processes that this one started and waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _origin() -> dict[str, Any]:
    found = asdict(Provenance.collect())
    return {"peak_memory_mb": peak_memory()} | {key: found[key] for key in ("commit", "modified", "date", "machine")}
