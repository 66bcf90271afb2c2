"""Writing answers with a causal model in this process: many rows at once, each under its own adapters and grammar.

The prompt runs once and its keys and values are kept. A step takes the likeliest token of those that the grammar
allows. Tokens that it leaves no choice about cost no pass of their own: they go through the model together with the
next token that does. Rows that are done leave the batch. Knows token ids and grammars; knows nothing of retrieval,
votes or tags.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import ModelConfig
from retrieveall.decoding.grammar import AnswerGrammar, AnswerState, fill_masks
from retrieveall.engines.answering import Written
from retrieveall.engines.encoding import TokenCodec
from retrieveall.errors import ConfigError, ModelFolderError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AnswerWriter", "Question", "answer_grammar", "end_tokens"]

_ROWS = 64
_TOKENS = 16384  # of all prompts of a batch; the cache of a 7B model takes 1 to 8 GB for these


@dataclass(frozen=True, slots=True)
class Question:
    """One answer to be written: the tokens before it, the text it is about, and the weight of each adapter."""

    ids: Sequence[int]
    text: str
    adapters: Mapping[str, float]


def end_tokens(codec: TokenCodec, model: Any = None) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's own, with which training ends, then those of the model.

    Raises:
        ConfigError: the tokenizer has no end token.
    """
    if codec.end is None:
        raise ConfigError(
            "decoder.kind is generation, expected a tokenizer with an end token (eos_token), got one without; "
            "set it in tokenizer_config.json"
        )
    more = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = [] if more is None else more if isinstance(more, list) else [more]
    return tuple(dict.fromkeys([codec.end, *map(int, more)]))


def answer_grammar(config: ModelConfig, codec: TokenCodec, model: Any) -> AnswerGrammar:
    """The grammar of a model's answers.

    Raises:
        ConfigError: the tokenizer has no end token, or cannot write the labels.
    """
    return AnswerGrammar(
        codec.tokenizer.backend_tokenizer.to_str(),
        int(model.get_output_embeddings().weight.shape[0]),
        end_tokens(codec, model),
        config.label_names,
        config.decoder.spacing,
    )


@dataclass(slots=True)
class _Row:
    """One answer in the making. ``pending`` tokens have not been through the model, ``seen`` many have."""

    question: Question
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
    """Greedy decoding of answers. ``seconds`` sums the time in passes of the model and in the grammar.

    Results do not depend on the size or the order of the batch, but for the last digits of the model's numbers.

    Args:
        model: a transformers causal language model with a key and value cache.
        bank: attached to ``model``.

    Raises:
        ConfigError: the tokenizer has no end token, or cannot write the labels.
    """

    def __init__(self, model: Any, bank: AdapterBank, codec: TokenCodec, config: ModelConfig) -> None:
        self._model, self._bank, self._codec = model, bank, codec
        self._labels = config.label_names
        self._longest = config.decoder.max_answer_tokens
        self._ends = frozenset(end_tokens(codec, model))
        self._grammar = answer_grammar(config, codec, model) if config.decoder.constrained else None
        self._breaks = frozenset(i for i in codec.plain("\n") if codec.decode([i]) == "\n")
        self._line_break: dict[int, int] = {}
        self.seconds = {"model": 0.0, "grammar": 0.0}
        self.passes = 0

    @torch.inference_mode()
    def write(self, questions: Sequence[Question]) -> list[Written]:
        """The answer to each question, in order.

        Raises:
            ModelFolderError: the model computes numbers that are not finite.
        """
        results: list[Written] = [Written()] * len(questions)
        for batch in _batches(questions):
            for i, written in zip(batch, self._write([questions[i] for i in batch]), strict=True):
                results[i] = written
        return results

    def _write(self, questions: Sequence[Question]) -> list[Written]:
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

    def _start(self, question: Question) -> _Row:
        with self._timed("grammar"):
            state = None if self._grammar is None else self._grammar.start(question.text)
            row = _Row(question, state, list(question.ids), self._longest)
            self._follow(row)
        return row

    def _follow(self, row: _Row) -> None:
        """Write what the grammar leaves no choice about."""
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
        """One more token for every row, chosen by ``logits`` [rows, vocabulary], and what then is forced."""
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
        """Which tokens may follow, bool [rows, vocabulary]; None for all of them."""
        if self._grammar is None:
            return None
        masks: npt.NDArray[np.int32] = np.zeros((len(rows), (vocabulary + 31) // 32), dtype=np.int32)
        fill_masks([row.state for row in rows], masks)
        bits = np.unpackbits(masks.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
        return torch.from_numpy(bits).to(device).bool()

    def _choose(self, logits: Tensor, allowed: Tensor | None) -> tuple[list[int], list[float], list[float]]:
        """The likeliest token of each row, its log-probability among those allowed, and that of the mention being over.

        The latter is the log-probability of a line break or an end token.
        """
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise ModelFolderError(
                "the model's scores contain NaN or infinity; set backbone.dtype to float32, or get the model again"
            )
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        total = logits.logsumexp(dim=1)
        best, tokens = logits.max(dim=1)
        over = torch.tensor(sorted(self._ends | self._breaks), device=logits.device)
        stop = logits[:, over].logsumexp(dim=1)
        found = torch.stack((best - total, stop - total)).clamp(max=0.0).tolist()
        return tokens.tolist(), found[0], found[1]

    def _read(self, row: _Row) -> Written:
        """The answer of a row with the probabilities of its lines; a line that was cut off is left away."""
        tokens = row.tokens[:-1] if row.tokens and row.tokens[-1] in self._ends else row.tokens
        answer = self._codec.decode(tokens)
        if not row.ended:
            answer = answer[: max(answer.rfind("\n"), 0)]
        return Written(answer, self._lines(row), len(row.tokens), row.ended)

    def _lines(self, row: _Row) -> tuple[float, ...]:
        """The log-probability of each line of an answer.

        Where a line break or an end token was chosen, the mention was over, which speaks for its line; that another
        one follows speaks for the next.
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
        """Line breaks that a token writes among other characters."""
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
    """Forward passes over rows of unequal progress with one key and value cache.

    Rows are filled up on the left, so that the last place of each is its newest token; what fills them is masked and
    positions are counted without it.
    """

    def __init__(self, model: Any, pad: int) -> None:
        from transformers import DynamicCache

        self._model, self._pad = model, pad
        self._device = model.get_input_embeddings().weight.device
        self._cache = DynamicCache(config=model.config)
        # transformers renames the argument: the old name is in every release of ours, and warns where the new one is.
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._mask: Tensor | None = None

    def run(self, rows: Sequence[_Row]) -> Tensor:
        """Logits [rows, vocabulary] after the pending tokens of each row, which then are no longer pending."""
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
        """Go on with these rows only."""
        assert self._mask is not None
        index = torch.tensor(rows, device=self._device)
        self._mask = self._mask[index]
        self._cache.batch_select_indices(index)


def _batches(questions: Sequence[Question]) -> Iterator[list[int]]:
    """Indices in batches: similar lengths together, and inside a batch equal adapters."""
    batch: list[int] = []
    for i in sorted(range(len(questions)), key=lambda j: len(questions[j].ids)):
        if batch and (len(batch) == _ROWS or len(questions[i].ids) * (len(batch) + 1) > _TOKENS):
            yield _arranged(batch, questions)
            batch = []
        batch.append(i)
    if batch:
        yield _arranged(batch, questions)


def _arranged(batch: list[int], questions: Sequence[Question]) -> list[int]:
    return sorted(batch, key=lambda i: (sorted(questions[i].adapters.items()), i))
