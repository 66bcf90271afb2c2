"""Step 1 of the shipped model: a byte-level BPE tokenizer over the words of PAN-X train and plain text.

    python scripts/mini/tokenizer.py --panx DIR --lmtext DIR --out runs/mini/tokenizer

Every word is one piece that begins with a blank, also in Chinese and Japanese, whose words are single characters;
so the tokens of a word do not depend on the spacing around it.
"""

from __future__ import annotations

import argparse
import lzma
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from retrieveall.data import read_corpus, segment

MARKERS = ["<|pad|>", "<|end|>", "<|mask|>", "<|entity|>", "<|context|>", "<|task|>", "<|item|>"]
TAG_TOKENS = [f"<|tag{i}|>" for i in range(128)]


def plain_text(folder: Path, language: str, limit: int | None = None) -> Iterator[str]:
    """Lines of ``folder/language.txt.xz``, at most ``limit`` characters of each."""
    with lzma.open(folder / f"{language}.txt.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield line.strip()[:limit]


def train(counts: Counter[str], size: int) -> Tokenizer:
    """BPE over counted words. Bytes are the alphabet, so no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=MARKERS + TAG_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=4,
        max_token_length=48,
        show_progress=False,
    )
    # The trainer counts for itself; repeating each word log-many times would distort, so lines of words go in.
    words = (" ".join([""] + [word] * min(count, 200_000)) for word, count in counts.items() if count > 1)
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--lmtext", type=Path, required=True)
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=32_000)
    parser.add_argument("--share", type=float, default=0.25, help="share of the plain text that is read")
    parser.add_argument("--panx-weight", type=int, default=6)
    args = parser.parse_args()
    rng = random.Random(13)
    counts: Counter[str] = Counter()
    for language in args.languages.split(","):
        own: Counter[str] = Counter()
        for sentence in read_corpus(args.panx / language / "train.tsv", language=language):
            own.update(word.text for word in segment(sentence.text))
        for word in own:
            own[word] *= args.panx_weight
        for line in plain_text(args.lmtext, language):
            if rng.random() < args.share:
                own.update(word.text for word in segment(line))
        counts.update(own)
        print(f"{language}: {len(own):,} different words", flush=True)
    for label in ("PER", "ORG", "LOC"):
        counts[label] += 100_000
    tokenizer = train(counts, args.size)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    print(f"{tokenizer.get_vocab_size():,} tokens in {args.out}")


if __name__ == "__main__":
    main()
