"""A token for every tag: reserved ones where there are any, else letters; never one twice."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall.config import DecoderConfig, LabelConfig, ModelConfig
from retrieveall.decoding import TagSet
from retrieveall.engines import TokenCodec
from retrieveall.engines.transformers import choose_tag_tokens, tag_token_ids
from retrieveall.errors import ConfigError


def config(labels: int, **tokens: str) -> ModelConfig:
    names = tuple(LabelConfig(name=f"L{i}") for i in range(labels))
    return ModelConfig(
        labels=names, decoder=DecoderConfig(tag_tokens={k.replace("_", "-"): v for k, v in tokens.items()})
    )


def ids_of(config: ModelConfig, codec: TokenCodec) -> list[int]:
    chosen = choose_tag_tokens(config, codec)
    decoder = config.decoder.model_copy(update={"tag_tokens": chosen})
    return tag_token_ids(config.model_copy(update={"decoder": decoder}), codec)


def test_reserved_tokens_come_first(tiny_tokenizer: Any) -> None:
    codec = TokenCodec(tiny_tokenizer, "as_is")
    chosen = choose_tag_tokens(config(5), codec)
    assert list(chosen) == list(TagSet(tuple(f"L{i}" for i in range(5))).tags)
    assert list(chosen.values()) == [f"<|tag{i}|>" for i in range(21)]


def test_letters_follow_where_the_reserved_end(tiny_tokenizer: Any) -> None:
    codec = TokenCodec(tiny_tokenizer, "as_is")
    chosen = choose_tag_tokens(config(8), codec)
    assert not any(token.startswith("<|") for token in list(chosen.values())[21:])
    assert len(set(ids_of(config(8), codec))) == 33


@pytest.mark.parametrize("kind", ["llama3", "qwen2"])
def test_tokenizers_without_reserved_tokens_give_letters(tokenizers: dict[str, Any], kind: str) -> None:
    codec = TokenCodec(tokenizers[kind], "as_is")
    ids = ids_of(config(3), codec)
    assert len(set(ids)) == 13
    for i in ids:
        assert tokenizers[kind].decode([i]).strip().isalpha()


def test_what_the_user_chose_is_kept_and_not_given_twice(tiny_tokenizer: Any) -> None:
    codec = TokenCodec(tiny_tokenizer, "as_is")
    chosen = choose_tag_tokens(config(2, S_L1="<|tag0|>", O="Q"), codec)
    assert (chosen["S-L1"], chosen["O"], chosen["B-L0"]) == ("<|tag0|>", "Q", "<|tag1|>")
    assert len(set(ids_of(config(2, S_L1="<|tag0|>"), codec))) == 9


def test_too_few_tokens(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="too few single tokens"):
        choose_tag_tokens(config(512), TokenCodec(tokenizers["qwen2"], "as_is"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({}, "none for O"),
        (dict.fromkeys(["O", "B_L0", "I_L0", "E_L0", "S_L0"], "Q"), "found one twice"),
        ({"O": "no token", "B_L0": "A", "I_L0": "B", "E_L0": "C", "S_L0": "D"}, "single token"),
    ],
)
def test_unusable_tag_tokens_are_refused(tiny_tokenizer: Any, tokens: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tag_token_ids(config(1, **tokens), TokenCodec(tiny_tokenizer, "as_is"))
