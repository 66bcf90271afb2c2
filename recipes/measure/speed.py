"""Speed and memory of a model in a process of its own, on texts of 20 words, and its cold start.

``measure_speed`` runs this file as ``python -m recipes.measure.speed MODEL``, which takes a JSON object on standard
input, with the texts and how to run the model, and prints another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from recipes.measure.pairs import WITHOUT_SPACES
from recipes.measure.running import RunningSet
from recipes.measure.threads import use_one_thread
from recipes.measure.variant import Variant
from retrieveall.errors import RetrieveAllError
from retrieveall.evaluation import cold_start, peak_memory
from retrieveall.evaluation.evaluator import BATCH
from retrieveall.evaluation.speed import COLD_TEXT

__all__ = ["WORDS", "measure_speed", "texts_of_words"]

WORDS = 20
"""Tokens of the corpus in each text; in Chinese and Japanese these are characters."""
TEXTS = 50
"""Of each language."""
ROUNDS = 3


def texts_of_words(sets: Sequence[RunningSet], count: int = TEXTS, words: int = WORDS) -> list[str]:
    """Up to ``count`` texts of exactly ``words`` tokens of each language, the languages in turn."""
    languages = dict.fromkeys(each.language for each in sets)
    texts = [
        list(islice(_texts_of_language([each for each in sets if each.language == language], words), count))
        for language in languages
    ]
    return [own[i] for i in range(count) for own in texts if i < len(own)]


def _texts_of_language(sets: Sequence[RunningSet], words: int) -> Iterator[str]:
    between = "" if sets[0].language in WITHOUT_SPACES else " "
    sentences = chain.from_iterable(each.sentences for each in sets)
    tokens = (raw.sentence.text[start:end] for raw in sentences for start, end in raw.tokens)
    while len(some := list(islice(tokens, words))) == words:
        yield between.join(some)


def measure_speed(model: str, texts: Sequence[str], variant: Variant) -> dict[str, Any]:
    """Texts a second of processor and of wall time, memory, and seconds of a whole ``retrieveall extract``.

    The command runs the model as its folder says, so a variant has no cold start.

    Raises:
        RetrieveAllError: one of the processes failed.
    """
    request = {"texts": list(texts), "levels": variant.levels, "cpu_precision": variant.cpu_precision}
    command = [sys.executable, "-m", "recipes.measure.speed", model]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RetrieveAllError(f"the process that measures speed failed: {last[:300]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not variant.plain:
        return found
    return found | cold_start([sys.executable, "-m", "retrieveall", "extract", COLD_TEXT, "--model", model])


def speed_in_this_process(
    model: str, texts: Sequence[str], levels: Sequence[str], cpu_precision: str | None
) -> dict[str, Any]:
    """Opens the model and runs it over the texts; the round with the least processor time counts."""
    started = time.perf_counter()
    opened = Variant.parse(levels, cpu_precision).open(model)
    use_one_thread()
    open_seconds, opened_mb = time.perf_counter() - started, peak_memory()
    batches = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
    opened.predict(batches[0])
    rounds = []
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        for batch in batches:
            opened.predict(batch)
        rounds.append((time.process_time() - processor, time.perf_counter() - wall))
    processor, wall = min(rounds)
    return {
        "texts": len(texts),
        "words_a_text": WORDS,
        "processor_seconds": round(processor, 3),
        "wall_seconds": round(wall, 3),
        "texts_per_processor_second": round(len(texts) / processor, 1),
        "texts_per_second": round(len(texts) / wall, 1),
        "rounds": [[round(seconds, 3) for seconds in each] for each in rounds],
        "open_seconds": round(open_seconds, 3),
        "peak_memory_mb_opened": opened_mb,
        "peak_memory_mb": peak_memory(),
    }


if __name__ == "__main__":
    use_one_thread()
    print(json.dumps(speed_in_this_process(sys.argv[1], **json.load(sys.stdin))))
