"""Generates answers with a causal model in this process: batches of rows, each with its own adapters and grammar.

The prompt runs once and its keys and values are cached. Decoding is greedy among the tokens that the grammar allows.
Forced tokens need no forward pass of their own: they run together with the next chosen token. Finished rows leave the
batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from retrieveall.adapters.bank import AdapterBank
from retrieveall.answers.grammar import AnswerGrammar, AnswerState, fill_masks
from retrieveall.config import Spacing
from retrieveall.engines.base import WriteRequest, Written
from retrieveall.errors import NonFiniteError
from retrieveall.tokens import TokenCodec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AnswerWriter", "end_tokens"]

_ROWS = 64
_TOKENS = 16384  # tokens of all prompts of a batch; the key-value cache of a 7B model needs 1 to 8 GB for these


def end_tokens(codec: TokenCodec, model: Any = None) -> tuple[int, ...]:
    """The end tokens of an answer: the tokenizer's, which training uses, then those of the model.

    Raises:
        ConfigError: the tokenizer has no end token.
    """
    more = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = [] if more is None else more if isinstance(more, list) else [more]
    return tuple(dict.fromkeys([codec.answer_end(), *map(int, more)]))


@dataclass(slots=True)
class _Row:
    """An unfinished answer. ``pending`` tokens have not run through the model yet, ``seen`` is the number that have."""

    question: WriteRequest
    state: AnswerState | None
    pending: list[int]
    room: int
    seen: int = 0
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    ended: bool = False

    @property
    def done(self) -> bool:
        return self.ended or len(self.tokens) >= self.room

    def take(self, tokens: Sequence[int], log_prob: float = 0.0, stop: float = 0.0) -> None:
        self.tokens += tokens
        self.log_probs += [log_prob, *[0.0] * (len(tokens) - 1)]
        self.stops += [stop, *[0.0] * (len(tokens) - 1)]
        self.pending += tokens


class AnswerWriter:
    """Greedy decoding of answers. ``seconds`` accumulates the time in forward passes and in the grammar.

    Results do not depend on batch size or order, up to floating-point rounding.

    Args:
        model: a transformers causal language model with a key-value cache.
        bank: the adapter bank attached to ``model``.
        constrained: decode under the answer grammar.

    Raises:
        ConfigError: the tokenizer has no end token, or cannot encode the labels.
    """

    def __init__(
        self,
        model: Any,
        bank: AdapterBank,
        codec: TokenCodec,
        labels: Sequence[str],
        spacing: Spacing,
        constrained: bool = True,
    ) -> None:
        self._model, self._bank, self._codec = model, bank, codec
        ends = end_tokens(codec, model)
        self._ends = frozenset(ends)
        self._grammar: AnswerGrammar | None = None
        if constrained:
            width = int(model.get_output_embeddings().weight.shape[0])
            self._grammar = AnswerGrammar(codec.tokenizer.backend.to_str(), width, ends, labels, spacing)
        self._breaks = frozenset(i for i in codec.plain("\n") if codec.decode([i]) == "\n")
        self._line_break: dict[int, int] = {}
        self.seconds = {"model": 0.0, "grammar": 0.0}
        self.passes = 0

    @torch.inference_mode()
    def write(self, questions: Sequence[WriteRequest]) -> list[Written]:
        """The answer to each question, in order.

        Raises:
            NonFiniteError: the model computes NaN or infinity.
        """
        results: list[Written] = [Written()] * len(questions)
        for batch in _batches(questions):
            for i, written in zip(batch, self._write([questions[i] for i in batch]), strict=True):
                results[i] = written
        return results

    def _write(self, questions: Sequence[WriteRequest]) -> list[Written]:
        rows = [self._start(question) for question in questions]
        live = [row for row in rows if not row.done]
        passes = _Passes(self._model, self._codec.pad)
        while live:
            with self._bank.use([row.question.adapters for row in live]):
                while not any(row.done for row in live):
                    with self._timed("model"):
                        logits = passes.run(live)
                        self.passes += 1
                    self._step(live, logits)
            kept = [i for i, row in enumerate(live) if not row.done]
            live = [live[i] for i in kept]
            if live:
                passes.keep(kept)
        return [self._read(row) for row in rows]

    def _start(self, question: WriteRequest) -> _Row:
        with self._timed("grammar"):
            state = None if self._grammar is None else self._grammar.start(question.text)
            row = _Row(question, state, list(question.ids), question.max_tokens)
            self._follow(row)
        return row

    def _follow(self, row: _Row) -> None:
        """Append the tokens that the grammar forces."""
        while row.state is not None and not row.done:
            if row.state.finished:
                row.ended = True
                return
            forced = row.state.forced()
            if not forced:
                return
            forced = forced[: row.room - len(row.tokens)]
            row.state.advance(forced)
            row.take(forced)
            row.ended = forced[-1] in self._ends

    def _step(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Append one token to every row, chosen by ``logits`` [rows, vocabulary], and the tokens then forced."""
        with self._timed("grammar"):
            allowed = self._allowed(rows, logits.shape[1], logits.device)
        with self._timed("model"):
            tokens, log_probs, stops = self._choose(logits, allowed)
        with self._timed("grammar"):
            for row, token, log_prob, stop in zip(rows, tokens, log_probs, stops, strict=True):
                row.take([token], log_prob, stop)
                if token in self._ends:
                    row.ended = True
                elif row.state is not None:
                    row.state.advance([token])
                    self._follow(row)

    def _allowed(self, rows: Sequence[_Row], vocabulary: int, device: torch.device) -> Tensor | None:
        """The allowed next tokens, bool [rows, vocabulary]; None if all are allowed."""
        if self._grammar is None:
            return None
        masks: npt.NDArray[np.int32] = np.zeros((len(rows), (vocabulary + 31) // 32), dtype=np.int32)
        fill_masks([row.state for row in rows], masks)
        bits = np.unpackbits(masks.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
        return torch.from_numpy(bits).to(device).bool()

    def _choose(self, logits: Tensor, allowed: Tensor | None) -> tuple[list[int], list[float], list[float]]:
        """The best token of each row, its log-probability among the allowed tokens, and that of the mention's end.

        The latter is the log-probability of a line break or an end token.
        """
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise NonFiniteError
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        total = logits.logsumexp(dim=1)
        best, tokens = logits.max(dim=1)
        over = torch.tensor(sorted(self._ends | self._breaks), device=logits.device)
        stop = logits[:, over].logsumexp(dim=1)
        found = torch.stack((best - total, stop - total)).clamp(max=0.0).tolist()
        return tokens.tolist(), found[0], found[1]

    def _read(self, row: _Row) -> Written:
        """The answer of a row with the probabilities of its lines, without an incomplete last line."""
        tokens = row.tokens[:-1] if row.tokens and row.tokens[-1] in self._ends else row.tokens
        answer = self._codec.decode(tokens)
        if not row.ended:
            answer = answer[: max(answer.rfind("\n"), 0)]
        return Written(answer, self._lines(row), len(row.tokens), row.ended, self._grammar is not None)

    def _lines(self, row: _Row) -> tuple[float, ...]:
        """The log-probability of each line of an answer.

        A chosen line break or end token ends the mention and counts for its line; that another line follows counts
        for the next.
        """
        lines = [0.0]
        for token, log_prob, stop in zip(row.tokens, row.log_probs, row.stops, strict=True):
            if token in self._ends:
                lines[-1] += stop
            elif token in self._breaks:
                lines[-1] += stop
                lines.append(log_prob - stop)
            else:
                lines[-1] += log_prob
                lines += [0.0] * self._breaks_in(token)
        return tuple(lines)

    def _breaks_in(self, token: int) -> int:
        """The number of line breaks in a token with other characters."""
        if token not in self._line_break:
            self._line_break[token] = self._codec.decode([token]).count("\n")
        return self._line_break[token]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started


class _Passes:
    """Forward passes over rows of different lengths with one key-value cache.

    Rows are left-padded, so that the last position is the newest token; padding is masked and not counted in
    positions.
    """

    def __init__(self, model: Any, pad: int) -> None:
        from transformers import DynamicCache

        self._model, self._pad = model, pad
        self._device = model.get_input_embeddings().weight.device
        self._cache = DynamicCache(config=model.config)
        # transformers renamed the argument: all supported releases accept the old name, newer ones with a warning.
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._mask: Tensor | None = None

    def run(self, rows: Sequence[_Row]) -> Tensor:
        """Run the pending tokens of each row; returns the logits [rows, vocabulary] after them."""
        longest = max(len(row.pending) for row in rows)
        ids = torch.full((len(rows), longest), self._pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        positions = torch.zeros((len(rows), longest), dtype=torch.long)
        for b, row in enumerate(rows):
            count = len(row.pending)
            ids[b, longest - count :] = torch.tensor(row.pending)
            mask[b, longest - count :] = 1
            positions[b, longest - count :] = torch.arange(row.seen, row.seen + count)
            row.seen += count
            row.pending = []
        mask = mask.to(self._device)
        self._mask = mask if self._mask is None else torch.cat((self._mask, mask), dim=1)
        out = self._model(
            input_ids=ids.to(self._device),
            attention_mask=self._mask,
            position_ids=positions.to(self._device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: self._cache},
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows."""
        assert self._mask is not None
        index = torch.tensor(rows, device=self._device)
        self._mask = self._mask[index]
        self._cache.batch_select_indices(index)


def _batches(questions: Sequence[WriteRequest]) -> Iterator[list[int]]:
    """Batches of indices: sorted by length, and inside a batch by adapters."""
    batch: list[int] = []
    for i in sorted(range(len(questions)), key=lambda j: len(questions[j].ids)):
        if batch and (len(batch) == _ROWS or len(questions[i].ids) * (len(batch) + 1) > _TOKENS):
            yield _arranged(batch, questions)
            batch = []
        batch.append(i)
    if batch:
        yield _arranged(batch, questions)


def _arranged(batch: list[int], questions: Sequence[WriteRequest]) -> list[int]:
    return sorted(batch, key=lambda i: (sorted(questions[i].adapters.items()), i))
