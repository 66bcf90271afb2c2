"""Token-level requests, shared by the engines that run one adapter per request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retrieveall.answers.gbnf import answer_gbnf
from retrieveall.config import ModelConfig
from retrieveall.engines.base import ScoreRequest, Scores, WriteRequest
from retrieveall.engines.remote.reading import Step, candidate_scores
from retrieveall.errors import ConfigError
from retrieveall.tokens import TokenCodec, load_tokenizer

__all__ = ["open_codec", "scores_of", "single_prompts", "stop_tokens", "top_adapter", "write_grammar"]


def open_codec(config: ModelConfig, folder: Path) -> TokenCodec:
    """The tokenizer of a backbone that runs elsewhere.

    Raises:
        ConfigError: a decoder with full attention, which servers do not support.
        ModelFolderError: no tokenizer.
    """
    if config.decoder.full_attention:
        raise ConfigError(
            "expected decoder.attention 'repeat' or decoder.kind 'generation' for a model that runs on a server, "
            "got attention 'full', which servers do not support; run it in process (engine='transformers')"
        )
    return TokenCodec(load_tokenizer(config.backbone, folder), config.decoder.spacing)


def top_adapter(adapters: Mapping[str, float]) -> str | None:
    """The adapter with the largest weight, the first by name in a tie; None for the backbone alone."""
    weighted = {name: weight for name, weight in adapters.items() if weight > 0.0}
    return min(weighted, key=lambda name: (-weighted[name], name)) if weighted else None


def single_prompts(request: ScoreRequest) -> list[list[int]]:
    """For each position, the tokens up to and including it; the candidates are scored as the next token."""
    return [list(request.ids[: position + 1]) for position in request.positions]


def scores_of(steps: Sequence[Step], tokens: Mapping[int, str]) -> Scores:
    """Scores float32 [positions, candidates] from one step per position; ``tokens`` are the candidates' texts."""
    if not steps:
        return np.zeros((0, len(tokens)), dtype=np.float32)
    return np.stack([candidate_scores(step, tokens) for step in steps])


def stop_tokens(codec: TokenCodec) -> tuple[int, ...]:
    """The end tokens of an answer.

    Raises:
        ConfigError: the tokenizer has no end token.
    """
    return (codec.answer_end(),)


def write_grammar(request: WriteRequest) -> str:
    """The answer grammar of a request, for servers with guided decoding."""
    return answer_gbnf(request.text, request.labels, request.spacing)
