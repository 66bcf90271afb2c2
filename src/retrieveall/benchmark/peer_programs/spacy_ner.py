"""spaCy's entity recogniser, trained from scratch on given words; called as ``peer_programs`` says.

Standard library and spaCy only. Two options are no settings of a benchmark: ``minutes`` of processor time after which
training ends, and ``held_out``, a share of the sentences that is not trained on and on which the best epoch is chosen.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed, minibatch


def peak_memory() -> float:
    """Of this process, in MB of 10^6 bytes, on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def train(sentences: str, target: str, options: str) -> None:
    settings = json.loads(options)
    fix_random_seed(settings["seed"])
    pipeline = spacy.blank("xx")
    pipeline.add_pipe("ner")
    examples = []
    for line in Path(sentences).read_text(encoding="utf-8").splitlines():
        sentence = json.loads(line)
        given = document(pipeline.vocab, sentence)
        gold = document(pipeline.vocab, sentence)
        gold.set_ents([spacy.tokens.Span(gold, first, last, label) for first, last, label in sentence["spans"]])
        examples.append(Example(given, gold))
    choose = random.Random(settings["seed"])
    held_out = take(examples, settings.get("held_out", 0), choose)
    optimizer = pipeline.initialize(lambda: examples)
    ends = time.process_time() + 60 * settings.get("minutes", math.inf)
    best, steps = (-1.0, 0), 0
    for epoch in range(1, settings["epochs"] + 1):
        choose.shuffle(examples)
        for batch in minibatch(examples, size=32):
            if time.process_time() > ends:
                break
            pipeline.update(batch, sgd=optimizer, drop=0.2)
            steps += 1
        if held_out and (score := pipeline.evaluate(held_out)["ents_f"] or 0.0) > best[0]:
            best = score, epoch
            pipeline.to_disk(target)
        if time.process_time() > ends:
            break
    if not held_out:
        pipeline.to_disk(target)
    chosen = {"held_out_f1": best[0], "kept_epoch": best[1]} if held_out else {}
    print(json.dumps({"memory_mb": peak_memory(), "epochs": steps * 32 / max(len(examples), 1), **chosen}))


def take(examples: list[Example], share: float, choose: random.Random) -> list[Example]:
    """A share of the examples, at least one, which are no longer in the list; none if the share is 0."""
    if not share:
        return []
    choose.shuffle(examples)
    count = max(1, round(share * len(examples)))
    taken = examples[:count]
    del examples[:count]
    return taken


def document(vocab: Any, sentence: dict[str, Any]) -> Any:
    return Doc(vocab, words=sentence["words"], spaces=sentence["spaces"])


def predict(folder: str, options: str) -> None:
    pipeline = spacy.load(folder)
    recogniser = pipeline.get_pipe("ner")
    for line in sys.stdin:
        documents = [document(pipeline.vocab, sentence) for sentence in json.loads(line)]
        spans = [
            [(each.start, each.end, each.label_) for each in found.ents]
            for found in recogniser.pipe(documents, batch_size=256)
        ]
        print(json.dumps({"spans": spans, "memory_mb": peak_memory()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(*sys.argv[2:])
    else:
        predict(*sys.argv[2:])
