"""A token for every tag: reserved ones where there are any, else letters; never one twice."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall.decoders.tagging import TagSet
from retrieveall.errors import ConfigError
from retrieveall.tokens import TokenCodec, choose_tag_tokens, tag_token_ids
from tiny import codec_of


def tags(labels: int) -> tuple[str, ...]:
    return TagSet(tuple(f"L{i}" for i in range(labels))).tags


def ids_of(labels: int, tokens: dict[str, str], codec: TokenCodec) -> list[int]:
    return tag_token_ids(tags(labels), choose_tag_tokens(tags(labels), tokens, codec), codec)


def test_reserved_tokens_come_first(tiny_tokenizer: Any) -> None:
    chosen = choose_tag_tokens(tags(5), {}, codec_of(tiny_tokenizer))
    assert list(chosen) == list(tags(5))
    assert list(chosen.values()) == [f"<|tag{i}|>" for i in range(21)]


def test_letters_follow_where_the_reserved_end(tiny_tokenizer: Any) -> None:
    codec = codec_of(tiny_tokenizer)
    chosen = choose_tag_tokens(tags(8), {}, codec)
    assert not any(token.startswith("<|") for token in list(chosen.values())[21:])
    assert len(set(ids_of(8, {}, codec))) == 33


@pytest.mark.parametrize("kind", ["llama3", "qwen2"])
def test_tokenizers_without_reserved_tokens_give_letters(tokenizers: dict[str, Any], kind: str) -> None:
    ids = ids_of(3, {}, codec_of(tokenizers[kind]))
    assert len(set(ids)) == 13
    for i in ids:
        assert tokenizers[kind].decode([i]).strip().isalpha()


def test_what_the_user_chose_is_kept_and_not_given_twice(tiny_tokenizer: Any) -> None:
    codec = codec_of(tiny_tokenizer)
    chosen = choose_tag_tokens(tags(2), {"S-L1": "<|tag0|>", "O": "Q"}, codec)
    assert (chosen["S-L1"], chosen["O"], chosen["B-L0"]) == ("<|tag0|>", "Q", "<|tag1|>")
    assert len(set(ids_of(2, {"S-L1": "<|tag0|>"}, codec))) == 9


def test_too_few_tokens(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="too few single tokens"):
        choose_tag_tokens(tags(512), {}, codec_of(tokenizers["qwen2"]))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({}, "none for O"),
        (dict.fromkeys(tags(1), "Q"), "found one twice"),
        ({"O": "no token", "B-L0": "A", "I-L0": "B", "E-L0": "C", "S-L0": "D"}, "single token"),
    ],
)
def test_unusable_tag_tokens_are_refused(tiny_tokenizer: Any, tokens: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tag_token_ids(tags(1), tokens, codec_of(tiny_tokenizer))
