"""Parses server responses into tag scores and written answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.engines.base import Written
from retrieveall.errors import EngineError
from retrieveall.tokens import TokenCodec

__all__ = ["AnswerReader", "Step", "candidate_scores", "choice_steps", "completion_choices"]

_ID = "token_id:"
_FLOOR = -1e4
"""Servers send about this value for minus infinity."""


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token: its id (None if the server sends only text), its text and log-probability.

    ``others`` holds the log-probabilities of the likeliest tokens at this position, by id or text.
    """

    token: int | None
    text: str
    log_prob: float
    others: Mapping[int | str, float] = field(default_factory=dict)


def completion_choices(answer: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """The choices of a completion with ``count`` prompts, in prompt order.

    Raises:
        EngineError: a wrong number of choices, or indices other than 0 to ``count`` - 1.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise EngineError("expected 'choices' in the server's answer, found none; does it support the completions API?")
    by_index = {choice.get("index"): choice for choice in choices}
    if len(choices) != count or set(by_index) != set(range(count)):
        raise EngineError(f"expected {count} choices in the server's answer, got {len(choices)} or wrong indices")
    return [by_index[number] for number in range(count)]


def choice_steps(choice: Mapping[str, Any], codec: TokenCodec) -> list[Step]:
    """The generated tokens of a choice.

    Raises:
        EngineError: the log-probabilities are missing, not numbers or of the wrong shape.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        raise EngineError("expected 'logprobs' in the server's answer, found none; the server must support them")
    tokens, scores, tops = (logprobs.get(key) for key in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not isinstance(scores, list) or len(tokens) != len(scores):
        raise EngineError("expected as many 'tokens' as 'token_logprobs' in the server's answer, got other shapes")
    if not isinstance(tops, list) or len(tops) != len(tokens):
        tops = [None] * len(tokens)
    steps = []
    for token, score, top in zip(tokens, scores, tops, strict=True):
        key = _key(token)
        others = {_key(each): _number(value) for each, value in top.items()} if isinstance(top, dict) else {}
        text = codec.decode([key]) if isinstance(key, int) else key
        steps.append(Step(key if isinstance(key, int) else None, text, _number(score), others))
    return steps


def candidate_scores(step: Step, tokens: Mapping[int, str]) -> npt.NDArray[Any]:
    """Scores of the candidates, float32 [candidates], at one position; ``tokens`` maps their ids to texts, in order.

    Raises:
        EngineError: a score is missing.
    """
    found = [step.others.get(token, step.others.get(text)) for token, text in tokens.items()]
    if None in found:
        missing = list(tokens.values())[found.index(None)]
        raise EngineError(
            f"the server gave no score for the token {missing!r}; it needs logprob_token_ids (recent vLLM), or "
            f"must be started with --logprobs-mode processed_logprobs --max-logprobs {len(tokens)}"
        )
    return np.array(found, dtype=np.float32)


class AnswerReader:
    """Joins generated tokens into an answer, with line probabilities as in ``engines.local.writer``.

    ``ends``: the end tokens of an answer.
    """

    def __init__(self, codec: TokenCodec, ends: Sequence[int]) -> None:
        self._codec = codec
        self._ends: set[int | str] = {*ends, *(codec.decode([end]) for end in ends)}
        breaks = [token for token in codec.plain("\n") if codec.decode([token]) == "\n"]
        self._over: set[int | str] = {*self._ends, *breaks, "\n"}

    def read(
        self, steps: Sequence[Step], *, stopped: bool, constrained: bool = True, text: str | None = None
    ) -> Written:
        """The answer. ``stopped``: the model ended it, instead of the token limit.

        ``text`` is the server's text, for steps without ids.
        """
        kept = [step for step in steps if not self._is(step, self._ends)]
        ids = [step.token for step in kept if step.token is not None]
        answer = self._codec.decode(ids) if len(ids) == len(kept) else "".join(step.text for step in kept)
        if text is not None and len(ids) != len(kept):
            answer = text
        ended = stopped or len(kept) < len(steps)
        if not ended:
            answer = answer[: max(answer.rfind("\n"), 0)]
        return Written(answer, self._lines(steps), len(steps), ended, constrained)

    def _lines(self, steps: Sequence[Step]) -> tuple[float, ...]:
        """Log-probability of each line: of its tokens, and of its mention's end at a line break or end token."""
        lines = [0.0]
        for step in steps:
            if self._is(step, self._over):
                over = [value for token, value in step.others.items() if token in self._over]
                stop = min(0.0, max(step.log_prob, _log_sum(over)))
                lines[-1] += stop
                if not self._is(step, self._ends):
                    lines.append(step.log_prob - stop)
            else:
                lines[-1] += step.log_prob
                lines += [0.0] * step.text.count("\n")
        return tuple(lines)

    @staticmethod
    def _is(step: Step, among: set[int | str]) -> bool:
        return step.text in among if step.token is None else step.token in among


def _key(token: Any) -> int | str:
    """The id of a token given as ``token_id:17``, else its text."""
    if not isinstance(token, str):
        raise EngineError(f"expected tokens as strings in the server's answer, got {type(token).__name__}")
    number = token.removeprefix(_ID)
    return int(number) if number != token and number.isdecimal() and len(number) < 10 else token


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > 1e-3:
        raise EngineError(f"expected a log-probability in the server's answer, got {str(value)[:40]!r}")
    return max(float(value), _FLOOR)


def _log_sum(values: Sequence[float]) -> float:
    if not values:
        return -math.inf
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))
