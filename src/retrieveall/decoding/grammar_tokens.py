"""The tokens of a vocabulary as the bytes that they write, and how the tokenizer itself writes a word.

Read from the text of a ``tokenizer.json``. Knows bytes, not texts, labels or models.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from retrieveall.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HEAD", "TokenTable"]

HEAD = 4
"""Bytes by which the longest tokens are looked up: few enough to be a small table, enough to be a short search."""

_WORD_CACHE = 1 << 16


class TokenTable:
    """Tokens of ``tokenizer_json`` with an id below ``vocabulary``; added tokens, such as chat markers, are left out.

    ``ids`` maps bytes to the token that writes them; ``data`` maps ids back. ``longest`` maps ``HEAD`` bytes to the
    length of the longest token that begins with them; ``before_break`` maps one byte to that of the longest token that
    begins with it and ends with a line break, without the break. ``inner`` holds the tokens with a space or a line
    break inside.

    Raises:
        ConfigError: not a ``tokenizer.json`` of a byte-level or SentencePiece vocabulary.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int) -> None:
        state, tokenizer = _load(tokenizer_json)
        parts = json.dumps([state.get("decoder"), state.get("pre_tokenizer")])
        read = _byte_level if '"ByteLevel"' in parts else _sentence_piece
        added = {int(token["id"]) for token in state.get("added_tokens") or ()}
        named = [
            (token, number, written)
            for token, number in _vocabulary(state["model"])
            if number < vocabulary and number not in added and (written := read(token))
        ]
        self.data: dict[int, bytes] = {number: written for _, number, written in named}
        # Of a byte and the character it is, the character: what the tokenizer itself would write.
        named.sort(key=lambda each: _fallback(each[0]) is None)
        self.ids = {written: number for _, number, written in named}
        self.any_byte = all(bytes([byte]) in self.ids for byte in range(0xF5) if byte not in (0xC0, 0xC1))
        if not self.any_byte:
            # A part of a character could not always be completed.
            self.ids = {written: number for written, number in self.ids.items() if _is_text(written)}
        self._sorted = sorted(self.ids)
        self.longest: dict[bytes, int] = {}
        for written in self._sorted:
            head = written[:HEAD]
            self.longest[head] = max(self.longest.get(head, 0), len(written))
        self.widest = max(self.longest.values(), default=1)
        self.inner = [each for each in self._sorted if b" " in each[1:] or b"\n" in each[:-1]]
        self.before_break: dict[bytes, int] = {}
        for written in self._sorted:
            if len(written) > 1 and written.find(b"\n") == len(written) - 1:
                self.before_break[written[:1]] = max(self.before_break.get(written[:1], 0), len(written) - 1)
        self._tokenizer = tokenizer
        first = tokenizer.encode("a", add_special_tokens=False).ids[:1]
        self.leads = [self.data.get(number, b"")[:1] for number in first] == [b" "]
        self.tokens = lru_cache(maxsize=_WORD_CACHE)(self._tokens)
        self.beginnings = lru_cache(maxsize=_WORD_CACHE)(self._beginnings)

    def can_write(self, text: str) -> bool:
        """Whether every character of ``text`` has tokens."""
        return self.any_byte or all(character.encode() in self.ids for character in text)

    def begins_a_token(self, written: bytes) -> bool:
        """Whether a token begins with these bytes."""
        at = bisect_left(self._sorted, written)
        return at < len(self._sorted) and self._sorted[at].startswith(written)

    def ahead(self, written: bytes) -> int:
        """No token that ``written`` begins with is longer than this."""
        return self.longest.get(written[:HEAD], HEAD - 1)

    def _beginnings(self, written: bytes) -> tuple[int, ...]:
        """All tokens that ``written`` begins with, the shortest first."""
        ids = self.ids
        longest = min(len(written), self.ahead(written))
        found = (ids.get(written[:length]) for length in range(1, longest + 1))
        return tuple(number for number in found if number is not None)

    def _tokens(self, written: bytes) -> tuple[int, ...]:
        """``written`` in tokens, as the tokenizer writes it where that gives the same bytes, else longest first."""
        text = written.decode("utf-8", "replace")
        for form in (text, text.removeprefix(" ")):
            ids = tuple(self._tokenizer.encode(form, add_special_tokens=False).ids)
            if all(number in self.data for number in ids) and b"".join(self.data[i] for i in ids) == written:
                return ids
        found = []
        while written:
            found.append(self.beginnings(written[: self.widest])[-1])
            written = written[len(self.data[found[-1]]) :]
        return tuple(found)


def _load(tokenizer_json: str) -> tuple[dict[str, Any], Tokenizer]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
        state = json.loads(tokenizer_json)
    except Exception as error:  # the Rust library raises nothing narrower
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(f"expected the text of a tokenizer.json, got one that cannot be read: {detail}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return state, tokenizer


def _vocabulary(model: dict[str, Any]) -> list[tuple[str, int]]:
    vocab, kind, unknown = model.get("vocab"), model.get("type"), model.get("unk_token")
    if kind == "WordPiece" or not vocab:
        raise ConfigError(
            f"expected a byte-level or SentencePiece vocabulary for constrained generation, got {kind}; "
            "use another backbone or decoder.kind: tagging"
        )
    if isinstance(vocab, dict):
        return [(token, int(number)) for token, number in vocab.items() if token != unknown]
    return [(token, number) for number, (token, _) in enumerate(vocab) if number != model.get("unk_id")]


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """The printable characters by which byte-level vocabularies spell bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in set(plain))
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}


def _byte_level(token: str) -> bytes:
    byte_of = _byte_of()
    return bytes(byte_of[character] for character in token) if all(each in byte_of for each in token) else b""


def _fallback(token: str) -> int | None:
    """The byte of a token such as <0x0A>."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return int(token[3:5], 16)
        except ValueError:
            return None
    return None


def _sentence_piece(token: str) -> bytes:
    byte = _fallback(token)
    if byte is not None:
        return bytes([byte])
    return token.replace("▁", " ").encode("utf-8", "replace")


def _is_text(written: bytes) -> bool:
    try:
        written.decode()
    except UnicodeDecodeError:
        return False
    return True
