"""A byte-level BPE tokenizer over the words of PAN-X train and plain text.

Every word is one piece that begins with a blank, also in Chinese and Japanese, whose words are single characters;
so the tokens of a word do not depend on the spacing around it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recipes.corpora import Lines, Sentences
from recipes.mini.settings import TokenizerSettings
from retrieveall.data import segment

__all__ = ["MASK", "SPECIAL_TOKENS", "open_tokenizer", "train_tokenizer", "word_encoder"]

MASK = "<|mask|>"
SPECIAL_TOKENS = (
    *("<|pad|>", "<|end|>", MASK, "<|entity|>", "<|context|>", "<|task|>", "<|item|>"),
    *(f"<|tag{i}|>" for i in range(128)),
)
_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<|pad|>",
    "eos_token": "<|end|>",
    "mask_token": MASK,
    "model_max_length": 2048,
    "clean_up_tokenization_spaces": False,
}


def train_tokenizer(
    folder: Path, settings: TokenizerSettings, labels: Sequence[str], train: Sentences, text: Lines
) -> None:
    """``tokenizer.json`` and its configuration; the names of the labels are single tokens."""
    rng = random.Random(settings.seed)
    counts: Counter[str] = Counter()
    for language in train.languages:
        own = count_words(sentence.text for sentence in train.of(language))
        for word in own:
            own[word] *= settings.panx_weight
        own += count_words(line for line in text.of(language) if rng.random() < settings.share)
        counts += own
        print(f"{language}: {len(own):,} different words", flush=True)
    counts.update(dict.fromkeys(labels, 100_000))
    tokenizer = fit(counts, settings)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(_CONFIG) + "\n", encoding="utf-8")
    print(f"{tokenizer.get_vocab_size():,} tokens", flush=True)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word.text for text in texts for word in segment(text))


def fit(counts: Counter[str], settings: TokenizerSettings) -> Tokenizer:
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
        vocab_size=settings.size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=4,
        max_token_length=48,
        show_progress=False,
    )
    # The trainer counts for itself: each word is repeated as often as it was counted.
    words = (" ".join([""] + [word] * min(count, 200_000)) for word, count in counts.items() if count > 1)
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def open_tokenizer(folder: Path) -> Tokenizer:
    """What ``train_tokenizer`` left in its folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def word_encoder(tokenizer: Tokenizer) -> Callable[[str], Iterator[list[int]]]:
    """A function from a text to the tokens of each of its words; it remembers words."""
    known: dict[str, list[int]] = {}

    def encode(text: str) -> Iterator[list[int]]:
        for word in segment(text):
            if word.text not in known:
                known[word.text] = tokenizer.encode(" " + word.text, add_special_tokens=False).ids
            yield known[word.text]

    return encode
