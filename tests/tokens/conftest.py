"""Tokenizers of the kinds that backbones come with, small enough to build in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

CHAT_MARKERS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<bos>", "[INST]", "EOS"]
ADDED = ["<tool_call>", "<think>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEXTS = ["The quick brown fox", "Anna und Karl", "北京大学", "'s 12345 ...", "<|im_start|> system EOS"] * 3


def _byte_level(pattern: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(CHAT_MARKERS)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ADDED])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|im_end|>")


def _sentence_piece() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *CHAT_MARKERS]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    # The trainer keeps bytes only as special tokens, which they are not in real tokenizers.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<bos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def tokenizers(tiny_tokenizer: Any) -> dict[str, Any]:
    """Tokenizers by kind."""
    return {
        "tiny": tiny_tokenizer,
        "llama3": _byte_level(LLAMA3),
        "qwen2": _byte_level(QWEN2),
        "sentencepiece": _sentence_piece(),
    }


@pytest.fixture(scope="session")
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Any]) -> Any:
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def special_ids() -> Callable[[Any], set[int]]:
    """All ids of a tokenizer that no text may give: special and added tokens."""
    return lambda tokenizer: set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
