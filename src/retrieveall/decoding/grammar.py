"""What may be written next, so that every answer parses, names labels of the model and copies the text in order.

The form of an answer is that of ``retrieveall.decoding.answers``. Which tokens may follow is worked out over bytes, so
that any tokenization of a legal answer is legal, and no other: a label, a space, then whole words of the text from the
end of the mention above on, as they stand there. An answer can say a word as often as the text does, and no oftener.

A token is looked up among those that the rest of the text begins with: the time of a step grows with the words of the
text and not with the vocabulary. Knows bytes and tokens, not models.
"""

from __future__ import annotations

import threading
import unicodedata
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from retrieveall.data import segment
from retrieveall.decoding.answers import SKIP, Spacing
from retrieveall.decoding.grammar_text import BARRIER, First, WritableText
from retrieveall.decoding.grammar_tokens import TokenTable
from retrieveall.errors import ConfigError, InputError

__all__ = ["AnswerGrammar", "AnswerState", "fill_masks"]

_MAX_TABLES = 4
_MANY = 256
"""So many places at once are not looked at for what they have in common."""

_tables: OrderedDict[tuple[bytes, int], TokenTable] = OrderedDict()
_lock = threading.Lock()


def _table(tokenizer_json: str, vocabulary: int) -> TokenTable:
    """The tokens of a tokenizer; the last few are kept."""
    key = sha256(tokenizer_json.encode("utf-8", "surrogatepass")).digest(), vocabulary
    with _lock:
        if key not in _tables:
            _tables[key] = TokenTable(tokenizer_json, vocabulary)
            while len(_tables) > _MAX_TABLES:
                _tables.popitem(last=False)
        _tables.move_to_end(key)
        return _tables[key]


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
        self.table = _table(tokenizer_json, vocabulary)
        if plain := [number for number in end_ids if number in self.table.data]:
            raise ConfigError(
                f"expected an end token that writes nothing, got {plain[0]} ({self.table.data[plain[0]]!r}); "
                "set the end-of-text token of the tokenizer"
            )
        self.vocabulary = vocabulary
        self.spacing: Spacing = spacing
        self.end_ids = tuple(dict.fromkeys(int(number) for number in end_ids))
        self.labels = (*labels, SKIP)
        missing = [each for each in (*self.labels, " ", "\n") if not self.table.can_write(each)]
        if missing:
            raise ConfigError(f"expected a tokenizer that can write {missing[0]!r}, got one without a token for it")
        self._written = sorted({unicodedata.normalize("NFC", label).encode() for label in self.labels})
        self.whole = frozenset(self._written)
        self.crossing = tuple(self.table.ids[each] for each in self.table.inner if self._may_cross(each))
        self.end_mask = _pack(self.end_ids, self.words)
        self._label_tokens: dict[tuple[bytes, bool], list[int]] = {}

    @property
    def words(self) -> int:
        """32-bit words of a mask."""
        return (self.vocabulary + 31) // 32

    def start(self, text: str) -> AnswerState:
        """The state before the first token of the answer about ``text``."""
        return AnswerState(self, WritableText(self.table, text, self.spacing))

    def encode(self, answer: str) -> list[int]:
        """``answer`` in tokens, word by word: as the words of the text are shown, and as forced tokens are chosen."""
        ids: list[int] = []
        for number, line in enumerate(answer.split("\n") if answer else ()):
            label, space, mention = line.partition(" ")
            ids += self.table.tokens(b"\n") if number else ()
            ids += self.table.tokens(label.encode())
            rest = space + mention
            ends = [word.end for word in segment(rest)]
            for start, end in pairwise([0, *ends[:-1], len(rest)]):
                ids += self.table.tokens(rest[start:end].encode())
        return ids

    def labels_from(self, written: bytes) -> list[bytes]:
        """The labels that begin with ``written``."""
        first = bisect_left(self._written, written)
        last = bisect_right(self._written, written + BARRIER)
        return self._written[first:last]

    def label_tokens(self, written: bytes, first: bool = False) -> list[int]:
        """The tokens that continue a label of which ``written`` stands already; ``first`` in the answer or not."""
        lead = b" " if first and self.table.leads else b""
        key = written, bool(lead)
        if key not in self._label_tokens:
            name = written.removeprefix(lead)
            rests = [label[len(name) :] for label in self.labels_from(name)]
            if not written and lead:
                rests += [lead + label for label in rests]
            found = {number for rest in rests for number in self.table.beginnings(rest)}
            self._label_tokens[key] = sorted(found)
        return self._label_tokens[key]

    def _may_cross(self, token: bytes) -> bool:
        """Whether a token may hold the end of one part of a line and the beginning of the next."""
        head, line_break, tail = token.partition(b"\n")
        if line_break:
            return bool(tail) and (tail.partition(b" ")[0] in self.whole or bool(self.labels_from(tail)))
        return any(label.endswith(head.partition(b" ")[0]) for label in self._written) and not head.startswith(b" ")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer stands.

    ``position`` is the word from which on mentions may begin. In a label: ``label`` is what stands of it, and ``size``
    is -1. In a mention: ``size`` bytes of it stand after the space, and it may be the one at any of ``starts``, None
    for all from ``position`` on. ``first``: no line is whole yet.
    """

    position: int = 0
    first: bool = True
    label: bytes = b""
    size: int = -1
    starts: tuple[int, ...] | None = None
    ended: bool = False


class AnswerState:
    """One answer in the making. Made by ``AnswerGrammar.start``; not to be shared between threads."""

    def __init__(self, grammar: AnswerGrammar, text: WritableText) -> None:
        self.grammar = grammar
        self._text = text
        self._table = grammar.table
        self._place = _Place()
        self._answer: list[bytes] = []

    @property
    def finished(self) -> bool:
        """Whether an end token has been written."""
        return self._place.ended

    @property
    def answer(self) -> str:
        """What has been written so far."""
        return b"".join(self._answer).decode("utf-8", "replace").lstrip(" ")

    def advance(self, tokens: Sequence[int]) -> None:
        """Write ``tokens``, an end token last where there is one.

        Raises:
            InputError: a token that cannot stand there; those before it have been written.
        """
        for token in tokens:
            if token in self.grammar.end_ids:
                after = replace(self._place, ended=True) if self._may_end() else None
            else:
                data = self._table.data.get(int(token))
                after = None if data is None else self._step(self._place, data)
                if data is not None and after is not None:
                    self._answer.append(data)
            if after is None:
                raise InputError(
                    f"expected a token that can follow {self.answer[-40:]!r}, got {int(token)} "
                    f"({self._table.data.get(int(token), b'')!r}); take one that mask() allows"
                )
            self._place = after

    def mask(self) -> npt.NDArray[np.int32]:
        """Packed bits [ceil(vocabulary / 32)]: token t may follow where bit t % 32 of word t // 32 is set."""
        row = np.zeros(self.grammar.words, dtype=np.int32)
        self.fill(row)
        return row

    def fill(self, row: npt.NDArray[np.int32]) -> None:
        """Write ``mask()`` into ``row``."""
        place, text, table = self._place, self._text, self._table
        bits = row.view(np.uint32)
        if place.ended:
            bits[:] = self.grammar.end_mask
            return
        bits[:] = 0
        tokens = list(self.grammar.end_ids) if self._may_end() else []
        if place.position <= text.last:
            tried = self.grammar.crossing
            if place.size < 0:
                tokens += self.grammar.label_tokens(place.label, place.first)
                if self._label(place.label) in self.grammar.whole:
                    tokens.append(table.ids[b" "])
                    tried = (*tried, *self._begin(bits, text.first_spaced))
            elif place.starts is None:
                tried = (*tried, *self._begin(bits, text.first_bare))
            else:
                found, breaking = text.tokens_at([start + place.size for start in place.starts])
                tokens += found
                tried = (*tried, *breaking)
                if self._may_go_on(place):
                    tokens.append(table.ids[b"\n"])
            tokens += [token for token in tried if self._step(place, table.data[token]) is not None]
        for token in tokens:
            bits[token >> 5] |= 1 << (token & 31)

    def forced(self) -> list[int]:
        """The tokens that the grammar leaves no choice about, up to the end of a word; none where there is one.

        Of the ways to write the same bytes, the tokenizer's own. A last token that may also be the beginning of a
        longer one, such as a full stop before a line break, is left to the model.
        """
        place, text = self._place, self._text
        if place.ended:
            return []
        if place.position > text.last:
            return [self.grammar.end_ids[0]]
        if place.size < 0:
            labels = self.grammar.labels_from(self._label(place.label))
            if len(labels) == 1 and labels[0] != self._label(place.label):
                return self._rest(labels[0], len(self._label(place.label)), {b" "})
            return []
        starts = place.starts if place.starts is not None else text.from_word(place.position)
        offsets = [start + place.size for start in starts[:_MANY]]
        if len(starts) >= _MANY or (place.size and any(map(text.is_end, offsets))):
            return [self.grammar.end_ids[0]] if place.size and self._only_end(offsets) else []
        rests = {text.written[each : text.word_end(each)] for each in offsets}
        if len(rests) > 1:
            return []
        rest = rests.pop()
        whole = text.written[text.word_start(offsets[0]) : offsets[0] + len(rest)]
        if offsets[0] - place.size >= offsets[0] + len(rest) - len(whole):
            whole = b" " + text.written[offsets[0] - place.size : offsets[0] + len(rest)]  # the first of its mention
        after = {text.written[each + len(rest) : each + len(rest) + 1] for each in offsets}
        return self._rest(whole, len(whole) - len(rest), {*after, b"\n"} - {b"", BARRIER})

    def _rest(self, whole: bytes, written: int, after: set[bytes]) -> list[int]:
        """The tokens of ``whole`` of which ``written`` bytes stand already and one of ``after`` follows."""
        table, size = self._table, 0
        tokens: Sequence[int] = table.tokens(whole)
        for number, token in enumerate(tokens):
            if size >= written:
                tokens = tokens[number:]
                break
            size += len(table.data[token])
        if size != written:
            tokens = table.tokens(whole[written:])
        if any(table.begins_a_token(table.data[tokens[-1]] + each) for each in after):
            tokens = tokens[:-1]
        return list(tokens)

    def _begin(self, bits: npt.NDArray[np.uint32], first: First) -> Sequence[int]:
        """Allow the first tokens of mentions from the position on; gives those that have to be tried."""
        _set(bits, first.tokens[first.last >= self._text.first_from(self._place.position)])
        return first.breaking

    def _only_end(self, offsets: Sequence[int]) -> bool:
        ends = (self._text.written[each : each + 1] in (b"", BARRIER) for each in offsets)
        return all(ends) and not self._may_go_on(self._place)

    def _may_end(self) -> bool:
        place = self._place
        if place.size < 0:
            return place.first and not place.label
        return place.size > 0 and any(self._text.is_end(start + place.size) for start in place.starts or ())

    def _may_go_on(self, place: _Place) -> bool:
        """Whether a line break may stand here: a mention ends, and words are left for another one."""
        after = self._after(place)
        return after is not None and after <= self._text.last

    def _label(self, written: bytes) -> bytes:
        # SentencePiece puts a space before the first word of all.
        return written.removeprefix(b" ") if self._place.first and self._table.leads else written

    def _step(self, place: _Place, data: bytes) -> _Place | None:
        """The place after ``data``; None where it cannot follow."""
        while data:
            if place.position > self._text.last:
                return None
            if place.size < 0:
                written = place.label + data
                name, space, data = self._label(written).partition(b" ")
                if not space:
                    return replace(place, label=written) if self.grammar.labels_from(name) else None
                if name not in self.grammar.whole:
                    return None
                place = _Place(place.position, place.first, size=0)
                continue
            copied, line_break, data = data.partition(b"\n")
            if copied:
                starts = place.starts if place.starts is not None else self._text.from_word(place.position)
                starts = self._text.matching(starts, place.size, copied)
                if not starts:
                    return None
                place = _Place(place.position, place.first, size=place.size + len(copied), starts=starts)
            if line_break:
                after = self._after(place)
                if after is None or after > self._text.last:
                    return None
                place = _Place(after, first=False)
        return place

    def _after(self, place: _Place) -> int | None:
        """The word after the mention that ends at ``place``; None where none ends there."""
        ends = (start for start in place.starts or () if self._text.is_end(start + place.size))
        start = next(ends, None)
        if start is None:
            return None
        mention = self._text.written[start : start + place.size].decode()
        found = self._text.mentions.find(mention, place.position)
        return found[1] if found else None


def fill_masks(states: Sequence[AnswerState | None], out: npt.NDArray[np.int32]) -> None:
    """Write the masks of ``states`` into the rows of ``out`` [batch, words].

    Rows of None allow the end token only, as those of finished answers; everything, where all are None.
    """
    end = next((state.grammar.end_mask for state in states if state is not None), None)
    for row, state in zip(out, states, strict=True):
        if state is not None:
            state.fill(row)
        elif end is not None:
            row[:] = end.view(np.int32)
        else:
            row[:] = -1


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


def _set(bits: npt.NDArray[np.uint32], tokens: npt.NDArray[np.int64]) -> None:
    np.bitwise_or.at(bits, tokens >> 5, np.uint32(1) << (tokens & 31).astype(np.uint32))


def _pack(tokens: Sequence[int], words: int) -> npt.NDArray[np.uint32]:
    bits = np.zeros(words, dtype=np.uint32)
    _set(bits, np.array(tokens, dtype=np.int64))
    return bits
