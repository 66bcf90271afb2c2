"""Small tokenizers of three kinds, each as the text of a ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

TRAINING = [
    "Ada Lovelace went to London .",
    "the Apple pie of Apple in New York",
    "北京大学在北京。",
    "O PER LOC\nORG a\n",
] * 9


def byte_level() -> str:
    """Byte-level BPE without a pattern, so that tokens may hold several words, spaces and line breaks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|end|>", "<|im_end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer.to_str()


def sentence_piece(fallback: bool = True) -> str:
    """As Llama 2: a space before the first word, "▁" for spaces, single bytes for what has no token."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    characters = sorted(set("".join(TRAINING).replace(" ", "▁").replace("\n", "")))
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256) if fallback), *characters]
    merges = [("▁", "A"), ("d", "a"), ("▁A", "da"), ("北", "京"), ("P", "E"), ("PE", "R"), ("▁", "PER"), ("▁", "L")]
    names += ["".join(pair) for pair in merges] + ([] if fallback else ["\n"])
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=fallback, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def tokenizer_json() -> Callable[[str], str]:
    """``tokenizer_json(kind)``: "byte-level", "sentencepiece" or "characters" (no bytes: not every text has tokens)."""
    made = {"byte-level": byte_level(), "sentencepiece": sentence_piece(), "characters": sentence_piece(fallback=False)}
    assert all(json.loads(text) for text in made.values())
    return made.__getitem__
