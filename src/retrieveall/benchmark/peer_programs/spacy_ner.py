"""spaCy's entity recogniser, trained from scratch on given words; called as ``peer_programs`` says.

Standard library and spaCy only.
"""

from __future__ import annotations

import json
import random
import sys
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
    optimizer = pipeline.initialize(lambda: examples)
    choose = random.Random(settings["seed"])
    for _ in range(settings["epochs"]):
        choose.shuffle(examples)
        for batch in minibatch(examples, size=32):
            pipeline.update(batch, sgd=optimizer, drop=0.2)
    pipeline.to_disk(target)
    print(json.dumps({"memory_mb": peak_memory()}))


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
