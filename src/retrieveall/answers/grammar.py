"""The grammar of answers: what may be written next, so that every answer parses and copies the text in order.

The form of an answer is that of ``retrieveall.answers.format``: a label, a space, then whole words of the text from
the end of the mention above on. Each text has its own grammar, one regular expression with two parts a word, which
llguidance enforces over the bytes of tokens: any tokenization of a legal answer is legal. Knows bytes and tokens, not
models.
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retrieveall.answers.format import SKIP, Mentions
from retrieveall.config import Spacing
from retrieveall.data import segment
from retrieveall.errors import ConfigError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["AnswerGrammar", "AnswerState", "fill_masks"]

_MAX_WORDS = 4096
"""Words of a text: llguidance takes 0.4 s for so many, and four times as long for twice as many."""

_NOTHING = 'start: ""\n'
"""The rules of a text without words: its answer is empty."""


class AnswerGrammar:
    """The answers of one tokenizer and label set.

    ``vocabulary`` is the number of logits, which may be more than the tokenizer has tokens; ``end_ids`` are the tokens
    that end an answer; ``spacing`` as in ``write_answer``. Safe to use from several threads.

    Raises:
        ConfigError: a tokenizer that cannot be read or cannot write the labels; end tokens out of range.
        InputError: labels that cannot be told apart in an answer.
    """

    def __init__(
        self,
        tokenizer_json: str,
        vocabulary: int,
        end_ids: Sequence[int],
        labels: Sequence[str],
        spacing: Spacing = "as_is",
    ) -> None:
        _check_labels(labels)
        if not end_ids or not all(0 <= number < vocabulary for number in end_ids):
            raise ConfigError(
                f"expected at least one end token from 0 to {vocabulary - 1}, got {list(end_ids)}; "
                "set the end-of-text token of the tokenizer"
            )
        self.vocabulary = vocabulary
        self.spacing: Spacing = spacing
        self.end_ids = tuple(dict.fromkeys(int(number) for number in end_ids))
        self.tokens = _tokens(tokenizer_json, vocabulary, self.end_ids)
        for label in (*labels, SKIP, " ", "\n"):
            if not self.tokens.can_write(label):
                raise ConfigError(f"expected a tokenizer that can write {label!r}, got one without a token for it")
        self._labels = sorted({unicodedata.normalize("NFC", label) for label in (*labels, SKIP)})

    @property
    def words(self) -> int:
        """32-bit words of a mask."""
        return (self.vocabulary + 31) // 32

    def start(self, text: str) -> AnswerState:
        """The state before the first token of the answer about ``text``.

        Raises:
            InputError: more than 4,096 words.
        """
        mentions = Mentions(text)
        if len(mentions) > _MAX_WORDS:
            raise InputError(
                f"expected a window of at most {_MAX_WORDS} words, got {len(mentions)}; lower windows.words"
            )
        forms = mentions.forms
        gaps = [mentions.gap(number, self.spacing) for number in range(len(mentions))]
        return AnswerState(self, self._rules(forms, gaps), _following(forms, gaps))

    def encode(self, answer: str) -> list[int]:
        """``answer`` in tokens, word by word: as the words of the text are shown, and as forced tokens are chosen."""
        ids: list[int] = []
        for number, line in enumerate(answer.split("\n") if answer else ()):
            label, space, mention = line.partition(" ")
            ids += self.tokens.encode(b"\n") if number else ()
            ids += self.tokens.encode(label.encode())
            rest = space + mention
            ends = [word.end for word in segment(rest)]
            for start, end in pairwise([0, *ends[:-1], len(rest)]):
                ids += self.tokens.encode(rest[start:end].encode())
        return ids

    def _rules(self, forms: Sequence[str], gaps: Sequence[str]) -> str:
        """The grammar of the answers about a text in llguidance's variant of Lark.

        ``L7`` is a mention that begins with word 7 or a later one; ``W7`` is word 7 and what may follow it. Words that
        the tokenizer cannot spell have no ``W``.
        """
        writable = [self.tokens.can_write(form) for form in forms]
        last = max((number for number, fits in enumerate(writable) if fits), default=-1)
        if last < 0:
            return _NOTHING
        lead = '" "?' if self.tokens.leads else ""
        # llguidance compiles a part after those that it names, recursively: one chain of a thousand parts overflows the
        # stack. Every eighth mention is named here, the last one first. ``L0`` holds them all, so nothing else changes.
        mentions = " | ".join(f"L{number}" for number in (*range(last - last % 8, 0, -8), 0))
        lines = [
            # Masks of all tokens that fit; llguidance would leave out those that are not its own tokenization.
            '%llguidance {"no_forcing": true}',
            "start: ANSWER?",
            f"ANSWER: {lead} LABEL ({mentions})",
            f'LABEL: ({" | ".join(map(_quoted, self._labels))}) " "',
        ]
        for number in range(last + 1):
            later = [f"L{number + 1}"] if number < last else []
            lines.append(f"L{number}: {' | '.join([f'W{number}'] * writable[number] + later)}")
            if writable[number]:
                more = [f'"\\n" LABEL {name}' for name in later]
                if later and writable[number + 1]:
                    more.append(f"{_quoted(gaps[number + 1])} W{number + 1}")
                lines.append(f"W{number}: {_quoted(forms[number])}" + (f" ({' | '.join(more)})?" if more else ""))
        return "\n".join(lines) + "\n"


class AnswerState:
    """One answer in the making. Made by ``AnswerGrammar.start``; not to be shared between threads.

    ``following`` holds the bytes that may follow each word, but for words that are the beginning of another one.
    """

    def __init__(self, grammar: AnswerGrammar, rules: str, following: Mapping[bytes, Set[bytes]]) -> None:
        import llguidance

        self.grammar = grammar
        self.finished = False
        self._tokens = grammar.tokens
        self._matcher = llguidance.LLMatcher(self._tokens.guided, rules, log_level=0, limits=_limits())
        self._written = b""
        self._word_end = 0  # the last place where a mention could end
        self._following = following
        self._empty = rules == _NOTHING
        self._check()

    @property
    def answer(self) -> str:
        """What has been written so far."""
        return self._written.decode("utf-8", "replace").lstrip(" ")

    def advance(self, tokens: Sequence[int]) -> None:
        """Write ``tokens``, an end token last where there is one.

        Raises:
            InputError: a token that cannot stand there; those before it have been written.
        """
        for token in map(int, tokens):
            if token in self.grammar.end_ids:
                fits = self.finished = self.finished or self._matcher.is_accepting()
            else:
                fits = self._consume(token)
            if not fits:
                raise InputError(
                    f"expected a token that can follow {self.answer[-40:]!r}, got {token}; take one that mask() allows"
                )

    def _consume(self, token: int) -> bool:
        """Write a token that does not end the answer; False where it cannot follow."""
        data = self._tokens.data.get(token)
        if self.finished or data is None or self._matcher.try_consume_tokens([token]) != 1:
            return False
        self._written += data
        if self._matcher.is_accepting():
            self._word_end = len(self._written)
        return True

    def mask(self) -> npt.NDArray[np.int32]:
        """Packed bits [ceil(vocabulary / 32)]: token t may follow where bit t % 32 of word t // 32 is set."""
        row = np.zeros(self.grammar.words, dtype=np.int32)
        self.fill(row)
        return row

    def fill(self, row: npt.NDArray[np.int32]) -> None:
        """Write ``mask()`` into ``row``."""
        if self.finished or self._matcher.is_stopped():
            self._check()
            _only(row, self.grammar.end_ids)
            return
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        self._check()

    def forced(self) -> list[int]:
        """The tokens that the grammar leaves no choice about, up to the end of a word; none where there is one.

        Of the ways to write the same bytes, the tokenizer's own. A last token that may also be the beginning of a
        longer one, such as a full stop before a line break, is left to the model.
        """
        if self.finished:
            return []
        if self._empty or self._matcher.is_stopped():
            self._check()
            return [self.grammar.end_ids[0]]
        ahead: bytes = self._matcher.compute_ff_bytes()
        if not ahead:
            return []
        line = self._written.rfind(b"\n") + 1
        begun = self._written[max(self._written.rfind(b" "), line, self._word_end) :]
        if b" " not in self._written[line:]:  # in a label
            label = ahead[: max(ahead.find(b" "), 0)]
            return self._tokens.rest(begun, label, {b" "}) if label else []
        following = self._following.get((begun + ahead).lstrip(b" "))
        return self._tokens.rest(begun, ahead, following) if following else []

    def _check(self) -> None:
        if self._matcher.is_error():
            detail = self._matcher.get_error().splitlines()[0][:200]
            raise InputError(f"expected a text that llguidance can guide, got {detail!r}; lower windows.words")


def fill_masks(states: Sequence[AnswerState | None], out: npt.NDArray[np.int32]) -> None:
    """Write the masks of ``states`` into the rows of ``out`` [batch, words].

    Rows of None allow the end token only, as those of finished answers; everything, where all are None.
    """
    ends = next((state.grammar.end_ids for state in states if state is not None), None)
    for row, state in zip(out, states, strict=True):
        if state is not None:
            state.fill(row)
        elif ends is not None:
            _only(row, ends)
        else:
            row[:] = -1


class _Tokens:
    """A tokenizer in bytes: ``data`` holds what each token writes, ``guided`` is llguidance's view of the same.

    Added tokens, such as chat markers, write nothing.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int, end_ids: Sequence[int]) -> None:
        import llguidance

        self._tokenizer, state = _load(tokenizer_json, vocabulary)
        for number in set(end_ids) - {token["id"] for token in state["added_tokens"]}:
            if (name := self._tokenizer.id_to_token(number)) is not None:
                raise ConfigError(
                    f"expected an end token that writes nothing, got {number} ({name!r}); "
                    "set the end-of-text token of the tokenizer"
                )
        try:
            self.guided = llguidance.LLTokenizer(json.dumps(state), vocabulary, list(end_ids), slices=[])
        except Exception as error:
            raise _unreadable(error) from None
        plain = [number for number in range(vocabulary) if not self.guided.is_special_token(number)]
        pieces = {number: self.guided.decode_bytes([number]) for number in plain}
        self.data: dict[int, bytes] = {number: piece for number, piece in pieces.items() if piece}
        self._ids = {piece: number for number, piece in self.data.items()}
        self._sorted = sorted(self._ids)
        self._widest = max(map(len, self._sorted), default=1)
        self._any_byte = all(bytes([byte]) in self._ids for byte in range(0xF5) if byte not in (0xC0, 0xC1))
        # SentencePiece puts a space before the first word of all.
        first = self._tokenizer.encode("a", add_special_tokens=False).ids[:1]
        self.leads = any(self.data.get(number, b"").startswith(b" ") for number in first)
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)

    def can_write(self, text: str) -> bool:
        """Whether every character of ``text`` has tokens."""
        return self._any_byte or all(character.encode() in self._ids for character in text)

    def rest(self, written: bytes, ahead: bytes, following: Set[bytes]) -> list[int]:
        """``ahead`` in tokens: those of the whole word where ``written`` ends with one of them.

        Without the last one where that and one of the ``following`` bytes may be the beginning of a longer token.
        """
        tokens, size = self.encode(written + ahead), 0
        for number, token in enumerate(tokens):
            if size >= len(written):
                tokens = tokens[number:]
                break
            size += len(self.data[token])
        if size != len(written):
            tokens = self.encode(ahead)
        longer = any(self._begins_a_token(self.data[tokens[-1]] + byte) for byte in following)
        return list(tokens[:-1] if longer else tokens)

    def _begins_a_token(self, written: bytes) -> bool:
        at = bisect_left(self._sorted, written)
        return at < len(self._sorted) and self._sorted[at].startswith(written)

    def _encode(self, written: bytes) -> tuple[int, ...]:
        """``written`` in tokens, as the tokenizer writes it where that gives the same bytes, else longest first."""
        text = written.decode("utf-8", "replace")
        for form in (text, text.removeprefix(" ")):
            ids = tuple(self._tokenizer.encode(form, add_special_tokens=False).ids)
            if b"".join(self.data.get(number, b"") for number in ids) == written:
                return ids
        found: list[int] = []
        while written:
            piece = next(written[:size] for size in range(self._widest, 0, -1) if written[:size] in self._ids)
            found.append(self._ids[piece])
            written = written[len(piece) :]
        return tuple(found)


@lru_cache(maxsize=4)
def _tokens(tokenizer_json: str, vocabulary: int, end_ids: tuple[int, ...]) -> _Tokens:
    return _Tokens(tokenizer_json, vocabulary, end_ids)


@lru_cache(maxsize=1)
def _limits() -> Any:
    import llguidance

    # A window of 1,000 words takes more than the defaults.
    return llguidance.LLParserLimits(initial_lexer_fuel=100_000_000, step_lexer_fuel=20_000_000)


def _following(forms: Sequence[str], gaps: Sequence[str]) -> dict[bytes, set[bytes]]:
    """The bytes that may follow each word, but for words that are the beginning of another one."""
    found: dict[str, set[bytes]] = {form: {b"\n"} for form in forms}
    for (form, following), gap in zip(pairwise(forms), gaps[1:], strict=True):
        found[form].add((gap + following).encode()[:1])
    for form, longer in pairwise(sorted(found)):
        if longer.startswith(form):
            del found[form]
    return {form.encode(): after for form, after in found.items()}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _load(tokenizer_json: str, vocabulary: int) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer, and its settings with every added token that the model has as a special one."""
    from tokenizers import Tokenizer

    try:
        state: dict[str, Any] = json.loads(tokenizer_json)
        added = [token | {"special": True} for token in state.get("added_tokens") or ()]
        tokenizer = Tokenizer.from_str(json.dumps(state | {"added_tokens": added}))
    except Exception as error:  # the Rust library raises nothing narrower
        raise _unreadable(error) from None
    kind = state["model"].get("type")
    if kind == "WordPiece" or not state["model"].get("vocab"):
        raise ConfigError(
            f"expected a byte-level or SentencePiece vocabulary for constrained generation, got {kind}; "
            "use another backbone or decoder.kind: tagging"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, state | {"added_tokens": [token for token in added if token["id"] < vocabulary]}


def _unreadable(error: Exception) -> ConfigError:
    detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ConfigError(f"expected the text of a tokenizer.json, got one that cannot be read: {detail}")


def _check_labels(labels: Sequence[str]) -> None:
    forms = [unicodedata.normalize("NFC", label) for label in labels]
    if not labels or len(set(forms)) != len(forms):
        raise InputError(f"expected labels that differ from each other, got {list(labels)[:20]}; rename them")
    for label in labels:
        if not label or label == SKIP or any(each.isspace() for each in label) or not label.isprintable():
            raise InputError(
                f"expected labels without blanks, controls or surrogates and none named {SKIP!r}, got {label[:80]!r}; "
                "rename it"
            )


def _only(row: npt.NDArray[np.int32], tokens: Sequence[int]) -> None:
    bits = row.view(np.uint32)
    bits[:] = 0
    for token in tokens:
        bits[token >> 5] |= np.uint32(1 << (token & 31))
