"""What each level of knowledge and the adapters are worth: validation F1 of a model with some of it left away.

    python scripts/levels.py --panx DIR --model mini --sentences 200

"bare" is the frozen backbone without adapter. A model whose settings show no context examples has no such level. The
model was trained with all of it now and then left away, so this shows what it uses, not what another model trained
without it could reach.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from retrieveall import RetrieveAll
from retrieveall.data import read_corpus, segment
from retrieveall.decoding import TagSet, decode_batch
from retrieveall.engines import TagRequest
from retrieveall.evaluation import Counts
from retrieveall.types import Knowledge, Sentence


def score(model: RetrieveAll, sentences: list[Sentence], found: list[Knowledge], adapters: dict[str, float]) -> float:
    """Micro F1 in per cent, the sentences as one window each."""
    tags = TagSet(model.labels)
    words = [segment(sentence.text) for sentence in sentences]
    requests = [
        TagRequest(
            model.build_prompt(sentence.text, knowledge, input_tokens=model.engine.count_words(own)), own, adapters
        )
        for sentence, knowledge, own in zip(sentences, found, words, strict=True)
    ]
    counts = Counts()
    for sentence, own, spans in zip(sentences, words, decode_batch(tags, model.engine.tag(requests)), strict=True):
        # As `retrieveall evaluate` counts: a gold entity that begins or ends inside a word cannot be found.
        gold = {(entity.start, entity.end, entity.label) for entity in sentence.entities}
        predicted = {(own[start].start, own[end - 1].end, label) for start, end, label, _ in spans}
        counts += Counts(len(gold & predicted), len(predicted), len(gold))
    return 100 * counts.f1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sentences", type=int, default=200, help="validation sentences a language")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    rows: dict[str, list[float]] = {}
    for language in model.languages:
        path = args.panx / language / "validation.tsv"
        sentences = list(islice(read_corpus(path, language=language), args.sentences))
        found = model.retrieve([sentence.text for sentence in sentences])
        levels = {
            "both": found,
            "entity level": [replace(one, neighbours=()) for one in found],
            "context level": [replace(one, entities=()) for one in found],
            "none": [Knowledge() for _ in found],
        }
        if not model.config.prompt.context_examples:
            del levels["both"], levels["context level"]
        for adapter, adapters in (("own adapter", {language: 1.0}), ("bare", {})):
            for level, knowledge in levels.items():
                rows.setdefault(f"{adapter}, {level}", []).append(score(model, sentences, knowledge, adapters))
    print(f"| | {' | '.join(model.languages)} | mean |\n|---|{'---|' * (len(model.languages) + 1)}")
    for name, scores in rows.items():
        print(f"| {name} | {' | '.join(f'{f1:.1f}' for f1 in scores)} | {sum(scores) / len(scores):.1f} |")


if __name__ == "__main__":
    main()
