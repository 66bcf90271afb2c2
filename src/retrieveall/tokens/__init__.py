"""Conversion between text and token ids; imports neither torch nor transformers."""

from __future__ import annotations

from retrieveall.tokens.codec import EncodedInput, TokenCodec, encode_input, encode_question
from retrieveall.tokens.tag_tokens import choose_tag_tokens, tag_token_ids
from retrieveall.tokens.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "EncodedInput",
    "TokenCodec",
    "Tokenizer",
    "choose_tag_tokens",
    "encode_input",
    "encode_question",
    "load_tokenizer",
    "tag_token_ids",
]
