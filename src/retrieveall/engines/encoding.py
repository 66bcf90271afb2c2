"""Prompt and words to token ids, and where in them each word's tags are read. Training and inference share this.

Contents (anything that is not the template's own text) are encoded as plain text: no special token can arise from
them, whatever they contain.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from retrieveall.data import segment
from retrieveall.engines.patterns import check_patterns
from retrieveall.errors import ConfigError, ModelFolderError
from retrieveall.prompts import ChatFrame, Piece, Prompt, chat_frame
from retrieveall.types import Word

__all__ = ["EncodedInput", "TokenCodec", "encode_input", "encode_question"]

_WORD_CACHE = 1 << 17
_MAX_WORD_TOKENS = 64
"""Tokens of the longest word; what is left of a longer one (a hundred letters of a rare script) is not shown."""


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """Token ids of one prompt with its words. ``reads[w]`` is the position of the last sub-word of word w.

    ``word_starts[w]`` is the position of its first sub-word; training uses it to hide words.
    """

    ids: list[int]
    reads: list[int]
    word_starts: list[int]


class TokenCodec:
    """A tokenizer seen through words and pieces.

    ``spacing="as_is"`` encodes a word with the space before it where the text has one; ``"always"`` as if every word
    had one. Encodings of words are cached; the cache is bounded. Safe to use from several threads.

    Raises:
        ModelFolderError: no fast tokenizer.
        UnsafeFileError: a tokenizer with a pattern that may take exponential time.
    """

    def __init__(self, tokenizer: Any, spacing: Literal["as_is", "always"]) -> None:
        self.tokenizer = tokenizer
        self._always = spacing == "always"
        # A fast tokenizer from the Rust library: one that is not would be code of its own.
        self._plain = _backend(tokenizer)
        self._lock = threading.Lock()  # whether special tokens are parsed is a setting of the shared tokenizer
        self._blank: tuple[int, ...] = ()
        self._encode = lru_cache(maxsize=_WORD_CACHE)(self._encode_plain)
        self._literal = lru_cache(maxsize=1024)(self._encode_literal)
        # Counted against the budget first, then encoded: the second time is free.
        self._content = lru_cache(maxsize=4096)(self._encode_content)
        self.bos: list[int] = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        self.end: int | None = None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
        self.pad: int = next((int(i) for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        # SentencePiece puts a space before everything it is given; a second one would be a token of its own.
        spaced = self._plain.encode("a", add_special_tokens=False).tokens[:1]
        self._space = "" if spaced and spaced[0].startswith("▁") else " "
        self._blank = next(filter(None, map(self._ids, ("\ufffd", "?"))), (self.pad,))

    def words(self, words: Sequence[Word]) -> list[tuple[int, ...]]:
        """Token ids of each word; at least one a word."""
        space = self._space
        if self._always:
            return [self._encode(space + word.text) for word in words]
        return [self._encode(space + word.text if word.space_before else word.text) for word in words]

    def piece(self, piece: Piece) -> list[int]:
        """Token ids of one piece of a prompt."""
        return list(self._literal(piece.text) if piece.literal else self._content(piece.text))

    def count(self, piece: Piece) -> int:
        return len(self._literal(piece.text) if piece.literal else self._content(piece.text))

    def _encode_content(self, text: str) -> tuple[int, ...]:
        return tuple(i for ids in self.words(segment(text)) for i in ids)

    def plain(self, text: str) -> list[int]:
        """Token ids of any text; no special token can arise from it."""
        return list(self._ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens by their names."""
        return str(self._plain.decode(list(ids), skip_special_tokens=False))

    def chat_frame(self) -> ChatFrame:
        """What the tokenizer's chat template puts around a message.

        Raises:
            ConfigError: it has none.
        """
        return chat_frame(self.tokenizer)

    def token_id(self, token: str) -> int:
        """Id of a single token, given as its text or its name in the vocabulary.

        Raises:
            ConfigError: it is not one token of this tokenizer.
        """
        if (named := self._plain.token_to_id(token)) is not None:
            return int(named)
        ids = self._encode_plain(token)
        if len(ids) != 1:
            raise ConfigError(
                f"expected a single token of the tokenizer as tag token, got {token!r} ({len(ids)} tokens)"
            )
        return ids[0]

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        # A word that the tokenizer's normaliser leaves nothing of still needs a place to be tagged at.
        return self._ids(text)[:_MAX_WORD_TOKENS] or self._blank

    def _encode_literal(self, text: str) -> tuple[int, ...]:
        return self._ids(text, special=True)

    def _ids(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Token ids; special tokens are parsed only with ``special``."""
        # Lone surrogates have no UTF-8 form; they become the replacement character in what the model sees only.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        with self._lock:
            self._plain.encode_special_tokens = not special
            try:
                return tuple(self._plain.encode(text, add_special_tokens=False).ids)
            finally:
                self._plain.encode_special_tokens = True


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelFolderError(
            f"expected a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}; convert it to the fast format"
        )
    parts = {name: getattr(backend, name) for name in ("normalizer", "pre_tokenizer")}
    states = {name: json.loads(part.__getstate__()) for name, part in parts.items() if part is not None}
    check_patterns(states, f"the tokenizer {tokenizer.name_or_path}")
    # A tokenizer.json may cut off or fill up whatever it encodes, here every single word.
    backend.no_truncation()
    backend.no_padding()
    return backend


def encode_input(codec: TokenCodec, prompt: Prompt, words: Sequence[Word], *, repeat: bool) -> EncodedInput:
    """Ids of prompt and words, tags read at the words or, with ``repeat``, at the words of the second copy."""
    ids = list(codec.bos)
    for piece in prompt.before:
        ids += codec.piece(piece)
    encoded = codec.words(words)
    if repeat:
        for word in encoded:
            ids += word
        for piece in prompt.repeat:
            ids += codec.piece(piece)
    reads, starts = [], []
    for word in encoded:
        starts.append(len(ids))
        ids += word
        reads.append(len(ids) - 1)
    return EncodedInput(ids, reads, starts)


def encode_question(codec: TokenCodec, prompt: Prompt, words: Sequence[Word]) -> EncodedInput:
    """Ids of the prompt, the words, and what stands between them and the answer that the model goes on to write."""
    encoded = encode_input(codec, prompt, words, repeat=False)
    for piece in prompt.repeat:
        encoded.ids.extend(codec.piece(piece))
    return encoded
