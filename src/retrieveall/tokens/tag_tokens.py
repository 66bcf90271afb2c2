"""Tag tokens: their logits are the scores of the tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from retrieveall.errors import ConfigError
from retrieveall.tokens.codec import TokenCodec

__all__ = ["choose_tag_tokens", "tag_token_ids"]


def tag_token_ids(tags: Sequence[str], tokens: Mapping[str, str], codec: TokenCodec) -> list[int]:
    """Ids of the tag tokens in the order of ``tags``; ``tokens`` is ``decoder.tag_tokens``.

    Raises:
        ConfigError: a tag without a token, or two tags with the same.
    """
    missing = [tag for tag in tags if tag not in tokens]
    if missing:
        raise ConfigError(f"decoder.tag_tokens: expected a token for every tag, found none for {missing[0]}")
    ids = [codec.token_id(tokens[tag]) for tag in tags]
    if len(set(ids)) != len(ids):
        raise ConfigError("decoder.tag_tokens: expected a different token for every tag, found one twice")
    return ids


def choose_tag_tokens(tags: Sequence[str], tokens: Mapping[str, str], codec: TokenCodec) -> dict[str, str]:
    """``tokens``, completed for every tag: reserved tokens (``<|tag0|>``...) if available, else letters.

    Raises:
        ConfigError: the tokenizer has too few single-token candidates.
    """
    reserved = (f"<|tag{i}|>" for i in range(len(tags)))
    letters = (f"{sign}{a}{b}" for sign in (" ", "") for b in ("", *ascii_uppercase) for a in ascii_uppercase)
    chosen = dict(tokens)
    taken = {codec.token_id(token) for token in chosen.values()}
    candidates = (token for source in (reserved, letters) for token in source)
    for tag in tags:
        while tag not in chosen:
            if (token := next(candidates, "")) == "":
                raise ConfigError("the tokenizer has too few single tokens for these labels; set decoder.tag_tokens")
            try:
                found = codec.token_id(token)
            except ConfigError:
                continue
            if found not in taken:
                chosen[tag] = token
                taken.add(found)
    return chosen
