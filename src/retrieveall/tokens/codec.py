"""Encodes prompt and words as token ids and locates the tag position of each word, in training and inference.

Contents (anything but the template's own text) are encoded as plain text and never become special tokens.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from retrieveall.config import Spacing
from retrieveall.data import segment
from retrieveall.errors import ConfigError
from retrieveall.prompts import ChatFrame, Piece, Prompt, chat_frame
from retrieveall.tokens.patterns import check_patterns
from retrieveall.tokens.tokenizer import Tokenizer, normaliser_states
from retrieveall.types import Word

__all__ = ["EncodedInput", "TokenCodec", "encode_input", "encode_question"]

_WORD_CACHE = 1 << 17
_MAX_WORD_TOKENS = 64
"""Maximum tokens of a word; a longer one (a hundred letters of a rare script) is truncated."""


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """Token ids of one prompt with its words. ``tag_positions[w]`` is the position of word w's last sub-word.

    ``word_starts[w]`` is the position of its first sub-word; training uses it to mask words.
    """

    ids: list[int]
    tag_positions: list[int]
    word_starts: list[int]


class TokenCodec:
    """A tokenizer for words and prompt pieces.

    ``spacing="as_is"`` encodes a word with a space before it if the text has one, ``"always"`` in any case. Encodings
    of words are kept in a bounded cache. Thread-safe.

    Raises:
        UnsafeFileError: a tokenizer pattern that may take exponential time.
    """

    def __init__(self, tokenizer: Tokenizer, spacing: Spacing) -> None:
        self.tokenizer = tokenizer
        self._always = spacing == "always"
        self._plain = tokenizer.backend
        check_patterns(normaliser_states(self._plain), f"the tokenizer {tokenizer.name}")
        # A tokenizer.json may enable truncation and padding, which would apply to every word here.
        self._plain.no_truncation()
        self._plain.no_padding()
        self._lock = threading.Lock()  # parsing of special tokens is a setting of the shared tokenizer
        self._blank: tuple[int, ...] = ()
        self._encode = lru_cache(maxsize=_WORD_CACHE)(self._encode_plain)
        self._literal = lru_cache(maxsize=1024)(self._encode_literal)
        # Pieces are counted against the budget first, then encoded from the cache.
        self._content = lru_cache(maxsize=4096)(self._encode_content)
        begin = tokenizer.bos if tokenizer.cls is None else tokenizer.cls
        self.bos: list[int] = [] if begin is None else [begin]
        # Encoders are trained on rows between two of these.
        self.closing: list[int] = [] if tokenizer.cls is None or tokenizer.sep is None else [tokenizer.sep]
        self.end: int | None = tokenizer.eos
        self.pad: int = next((i for i in (tokenizer.pad, tokenizer.eos) if i is not None), 0)
        # SentencePiece prepends a space to its input, which is wrong inside a text: it is given to the first word only.
        self._first = _without_prefix(self._plain)
        spaced = self._plain.encode("a", add_special_tokens=False).tokens[:1]
        self._space = "" if spaced and spaced[0].startswith("▁") else " "
        self._mark = self._plain.token_to_id("▁") if self._first else None
        self._blank = next(filter(None, map(self._ids, ("\ufffd", "?"))), (self.pad,))

    def words(self, words: Sequence[Word]) -> list[tuple[int, ...]]:
        """Token ids of each word; at least one per word."""
        space = self._space
        if self._always:
            return [self._encode(space + word.text) for word in words]
        found = [self._encode(space + word.text if word.space_before else word.text) for word in words]
        if words and (words[0].opens or (words[0].start == 0 and not words[0].space_before)):
            found[0] = self._opening(words[0].text)
        return found

    def _opening(self, word: str) -> tuple[int, ...]:
        """Token ids of the first word of a text."""
        if not self._first:
            return self._encode(word)
        ids = self._encode(self._space + word)
        return ids[1:] if len(ids) > 1 and ids[0] == self._mark else ids

    def piece(self, piece: Piece) -> list[int]:
        """Token ids of one piece of a prompt."""
        return list(self._literal(piece.text) if piece.literal else self._content(piece.text))

    def count(self, piece: Piece) -> int:
        return len(self._literal(piece.text) if piece.literal else self._content(piece.text))

    def _encode_content(self, text: str) -> tuple[int, ...]:
        return tuple(i for ids in self.words(segment(text)) for i in ids)

    def cost(self, words: Sequence[Word]) -> int:
        """Number of tokens of one copy of the words."""
        return sum(map(len, self.words(words)))

    def plain(self, text: str) -> list[int]:
        """Token ids of plain text; never special tokens."""
        return list(self._ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, including special tokens."""
        return str(self._plain.decode(list(ids), skip_special_tokens=False))

    def chat_frame(self) -> ChatFrame:
        """The text that the tokenizer's chat template puts around a message.

        Raises:
            ConfigError: there is no usable chat template.
        """
        tokenizer = self.tokenizer
        named = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "pad_token": tokenizer.pad}
        tokens = {name: tokenizer.token(number) for name, number in named.items() if number is not None}
        return chat_frame(tokenizer.chat_template, tokenizer.name or "the backbone", tokens)

    def token_id(self, token: str) -> int:
        """Id of a single token, given as text or by its name in the vocabulary.

        Raises:
            ConfigError: not a single token of this tokenizer.
        """
        if (named := self._plain.token_to_id(token)) is not None:
            return int(named)
        ids = self._encode_plain(token)
        if len(ids) != 1:
            raise ConfigError(
                f"expected a single token of the tokenizer as tag token, got {token!r} ({len(ids)} tokens)"
            )
        return ids[0]

    def answer_end(self) -> int:
        """The token that ends a generated answer.

        Raises:
            ConfigError: the tokenizer has no end token.
        """
        if self.end is None:
            raise ConfigError(
                "decoder.kind is generation, expected a tokenizer with an end token (eos_token), got one without; "
                "set it in tokenizer_config.json"
            )
        return self.end

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        # A word that the tokenizer's normaliser removes still needs a position for its tag.
        return self._ids(text)[:_MAX_WORD_TOKENS] or self._blank

    def _encode_literal(self, text: str) -> tuple[int, ...]:
        return self._ids(text, special=True)

    def _ids(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Token ids; special tokens are parsed only if ``special``."""
        # Lone surrogates cannot be encoded as UTF-8; the model sees the replacement character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        with self._lock:
            self._plain.encode_special_tokens = not special
            try:
                return tuple(self._plain.encode(text, add_special_tokens=False).ids)
            finally:
                self._plain.encode_special_tokens = True


def _without_prefix(backend: Any) -> bool:
    """Stop the tokenizer's own pre-tokeniser from putting a space before its input; whether it did.

    Only SentencePiece's models as ``tokenizers`` writes them (Metaspace, perhaps after a split at white space).
    """
    if backend.pre_tokenizer is None:
        return False
    state = json.loads(backend.pre_tokenizer.__getstate__())
    parts = state["pretokenizers"] if state.get("type") == "Sequence" else [state]
    if [part["type"] for part in parts if part["type"] != "WhitespaceSplit"] != ["Metaspace"]:
        return False
    metaspace = parts[-1]
    if metaspace.get("prepend_scheme") != "always":
        return False
    from tokenizers.pre_tokenizers import Metaspace

    # Words come one by one: there is no white space to split at but the one before.
    backend.pre_tokenizer = Metaspace(metaspace["replacement"], prepend_scheme="never", split=metaspace["split"])
    return True


def encode_input(codec: TokenCodec, prompt: Prompt, words: Sequence[Word], *, repeat: bool) -> EncodedInput:
    """Ids of prompt and words; tags are read at the words or, with ``repeat``, at the words of the second copy."""
    ids = list(codec.bos)
    for piece in prompt.before:
        ids += codec.piece(piece)
    encoded = codec.words(words)
    if repeat:
        for word in encoded:
            ids += word
        for piece in prompt.repeat:
            ids += codec.piece(piece)
    tag_positions, starts = [], []
    for word in encoded:
        starts.append(len(ids))
        ids += word
        tag_positions.append(len(ids) - 1)
    return EncodedInput(ids + codec.closing, tag_positions, starts)


def encode_question(codec: TokenCodec, prompt: Prompt, words: Sequence[Word]) -> EncodedInput:
    """Ids of the prompt, the words and the pieces before the answer."""
    encoded = encode_input(codec, prompt, words, repeat=False)
    del encoded.ids[len(encoded.ids) - len(codec.closing) :]  # the row goes on
    for piece in prompt.repeat:
        encoded.ids.extend(codec.piece(piece))
    return encoded
