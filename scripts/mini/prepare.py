"""The tagging data of the shipped model: every training sentence with no, some and all of its knowledge, by language.

    python scripts/mini/prepare.py --panx DIR --knowledge runs/mini/knowledge --tokenizer runs/mini/tokenizer \
        --negatives runs/mini/negatives --positives runs/mini/positives --out runs/mini/prepared
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast

from retrieveall.config import ModelConfig, load_yaml
from retrieveall.data import read_corpus
from retrieveall.engines.encoding import TokenCodec
from retrieveall.knowledge import KnowledgeBase
from retrieveall.training.examples import Example, ExampleBuilder
from retrieveall.types import Entity, Knowledge, Sentence

BATCH = 512
PLAIN = "plain"
"""``id`` of the sentences of plain text with names."""


def flatten(examples: list[Example], path: Path) -> None:
    """Write examples end to end, as ``packing.Flat`` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "ids": np.concatenate([np.array(e.ids, dtype=np.int32) for e in examples]),
            "offsets": np.cumsum([0, *(len(e.ids) for e in examples)]),
            "reads": np.concatenate([np.array(e.reads, dtype=np.int32) for e in examples]),
            "starts": np.concatenate([np.array(e.starts, dtype=np.int32) for e in examples]),
            "tags": np.concatenate([np.array(e.tags, dtype=np.int16) for e in examples]),
            "read_offsets": np.cumsum([0, *(len(e.reads) for e in examples)]),
        },
        str(path),
    )


def swap_mentions(sentence: Sentence, mentions: dict[str, list[str]], share: float, rng: random.Random) -> Sentence:
    """The sentence with ``share`` of its mentions replaced by others of the same label and language."""
    text, entities, position = "", [], 0
    for entity in sentence.entities:
        text += sentence.text[position : entity.start]
        mention = rng.choice(mentions[entity.label]) if rng.random() < share else entity.text
        entities.append(Entity(len(text), len(text) + len(mention), entity.label, mention))
        text += mention
        position = entity.end
    return replace(sentence, text=text + sentence.text[position:], entities=tuple(entities))


def hide_half(sentence: Sentence, found: Knowledge, rng: random.Random) -> Knowledge:
    """``found`` without half of the names: those of plain text were found by what is known, the next text's are not."""
    spans = [(entity.start, entity.end) for entity in sentence.entities if rng.random() < 0.5]
    kept = (
        known for known in found.entities if not any(known.start < end and start < known.end for start, end in spans)
    )
    return replace(found, entities=tuple(kept))


def plain_text(folder: Path, language: str) -> list[Sentence]:
    """What ``positives.py`` or ``negatives.py`` found; of little text that may be nothing."""
    path = folder / f"{language}.jsonl"
    return list(read_corpus(path, language=language)) if path.stat().st_size else []


def training_sentences(args: argparse.Namespace, language: str, rng: random.Random) -> list[Sentence]:
    """PAN-X train and plain text with names, both with mentions swapped if wanted; then sentences without entities.

    Those of plain text are repeated up to three times, to a sixteenth of PAN-X; they have ``id`` set.
    """
    sentences: list[Sentence] = []
    if args.panx:
        sentences += islice(read_corpus(args.panx / language / "train.tsv", language=language), args.sentences)
    mentions: dict[str, list[str]] = defaultdict(list)
    for sentence in sentences:
        for entity in sentence.entities:
            mentions[entity.label].append(entity.text)
    without_names = len(sentences) // 8
    if args.positives:
        named = plain_text(args.positives, language)
        sentences += [replace(s, id=PLAIN) for s in (named * 3)[: len(sentences) // 16]]
    if args.swap:
        sentences = [swap_mentions(s, mentions, args.swap, rng) for s in sentences]
    if args.negatives:
        sentences += plain_text(args.negatives, language)[:without_names]
    return sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, help="folder of LANG/train.tsv")
    parser.add_argument("--knowledge", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("retrieveall.yaml"))
    parser.add_argument("--negatives", type=Path, help="folder of entity-free sentences, LANG.jsonl")
    parser.add_argument("--positives", type=Path, help="folder of plain text with names, LANG.jsonl")
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--sentences", type=int, help="of PAN-X a language; all if not given")
    parser.add_argument("--context-examples", type=int, default=1, help="of both levels, whatever the settings say")
    parser.add_argument("--swap", type=float, default=0.0, help="share of mentions to replace by others")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = load_yaml(ModelConfig, args.config)
    prompt = config.prompt.model_copy(update={"context_examples": args.context_examples})
    config = config.model_copy(update={"prompt": prompt})
    codec = TokenCodec(
        PreTrainedTokenizerFast(tokenizer_file=str(args.tokenizer / "tokenizer.json"), pad_token="<|pad|>"),
        config.decoder.spacing,
    )
    knowledge = KnowledgeBase.open(args.knowledge)
    builder = ExampleBuilder(config, knowledge, codec)
    rng = random.Random(args.seed)
    for language in args.languages.split(","):
        started = time.monotonic()
        sentences = training_sentences(args, language, rng)
        variants: dict[str, list[Example]] = defaultdict(list)
        covered = touched = total = partial = 0
        for first in range(0, len(sentences), BATCH):
            rows = sentences[first : first + BATCH]
            for sentence, found in zip(rows, builder.knowledge_of(rows, leave_out=True), strict=True):
                if args.swap:
                    # A mention swapped in was seen where it comes from; left in, it would be known far more often than
                    # a mention of a new text is (80% against 40%).
                    entities = knowledge.known_entities(
                        sentence.text,
                        leave_out=[sentence],
                        near_matches=config.retrieval.near_matches,
                        partial_matches=config.retrieval.partial_matches,
                    )
                    found = replace(found, entities=entities)
                elif sentence.id == PLAIN:
                    found = hide_half(sentence, found, rng)
                spans = {(e.start, e.end) for e in found.entities if not e.partial}
                covered += sum((e.start, e.end) in spans for e in sentence.entities)
                parts = [e for e in found.entities if e.partial]
                partial += len(parts)
                touched += sum(any(p.start < e.end and e.start < p.end for p in parts) for e in sentence.entities)
                total += len(sentence.entities)
                variants["none"].append(builder.encode(sentence, Knowledge()))
                variants["entity"].append(builder.encode(sentence, Knowledge(entities=found.entities)))
                variants["full"].append(builder.encode(sentence, found))
        for name, examples in variants.items():
            flatten(examples, args.out / language / f"train.{name}.safetensors")
        tokens = {name: sum(len(e.ids) for e in examples) / len(examples) for name, examples in variants.items()}
        print(
            f"{language}: {len(sentences):,} sentences in {time.monotonic() - started:.0f} s, "
            f"{covered / max(1, total):.1%} of the mentions known and {touched / max(1, total):.1%} in part, "
            f"{partial / len(sentences):.1f} parts a sentence; tokens a sentence: "
            + ", ".join(f"{name} {count:.1f}" for name, count in tokens.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
