"""What engines whose model runs elsewhere have in common: the tokenizer's side of a request. Knows no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.config import ModelConfig
from retrieveall.engines.base import GenerateRequest, TagRequest
from retrieveall.engines.encoding import TokenCodec, encode_input, encode_question
from retrieveall.engines.remote_grammar import answer_gbnf
from retrieveall.engines.remote_reading import AnswerReader, Step, tag_log_probs
from retrieveall.engines.remote_tokenizer import load_tokenizer
from retrieveall.errors import ConfigError, InputError
from retrieveall.prompts import ChatFrame, Piece
from retrieveall.types import Word

__all__ = ["RemoteCodec", "top_adapter"]


def top_adapter(adapters: Mapping[str, float]) -> str | None:
    """The adapter with the greatest weight, the first by name among equals; None for the bare backbone."""
    weighted = {name: weight for name, weight in adapters.items() if weight > 0.0}
    return min(weighted, key=lambda name: (-weighted[name], name)) if weighted else None


class RemoteCodec:
    """Requests to token ids, and tokens back to scores and answers. The half of an engine that needs no model.

    Raises:
        ConfigError: the decoder cannot run elsewhere (full attention), or its tokens are not the tokenizer's.
        ModelFolderError: no tokenizer.
    """

    def __init__(self, config: ModelConfig, folder: Path) -> None:
        self.config = config
        self.generates = config.decoder.kind == "generation"
        if not self.generates and config.decoder.attention == "full":
            raise ConfigError(
                "expected decoder.attention 'repeat' or decoder.kind 'generation' for a model that runs on a server, "
                "got attention 'full', which no server offers; run it in process (engine='transformers')"
            )
        self.codec = TokenCodec(load_tokenizer(config, folder), config.decoder.spacing)
        self.tags: dict[int, str] = {}
        self.ends: tuple[int, ...] = ()
        if self.generates:
            self._open_generation()
        else:
            self._open_tagging()

    def _open_tagging(self) -> None:
        from retrieveall.engines.transformers import tag_token_ids

        self.tags = {token: self.codec.decode([token]) for token in tag_token_ids(self.config, self.codec)}

    def _open_generation(self) -> None:
        if self.codec.end is None:
            raise ConfigError("expected a tokenizer with an end token (eos_token), got one without; set it")
        self.ends = (self.codec.end,)
        self.reader = AnswerReader(self.codec, self.ends)

    # -- the protocol of engines --------------------------------------------------------------------------------------

    def count(self, piece: Piece) -> int:
        return self.codec.count(piece)

    def count_words(self, words: Sequence[Word]) -> int:
        return sum(map(len, self.codec.words(words))) * (1 if self.generates else 2)

    def chat_frame(self) -> ChatFrame | None:
        """What stands around the prompt; None without ``prompt.chat``."""
        return self.codec.chat_frame() if self.config.prompt.chat else None

    # -- requests -----------------------------------------------------------------------------------------------------

    def tag_prompts(self, request: TagRequest) -> list[list[int]]:
        """For each word, the tokens up to and with its last one in the second copy: its tag is the next token.

        Raises:
            InputError: the model is one that generates.
        """
        if self.generates:
            raise InputError("expected a model that tags words, this one generates (decoder.kind); call generate")
        encoded = encode_input(self.codec, request.prompt, request.words, repeat=True)
        return [encoded.ids[: read + 1] for read in encoded.reads]

    def question(self, request: GenerateRequest) -> list[int]:
        """The tokens before the answer.

        Raises:
            InputError: the model is one that tags.
        """
        if not self.generates:
            raise InputError("expected a generating model, this one tags words (decoder.kind); call tag")
        return encode_question(self.codec, request.prompt, request.words).ids

    def grammar(self, text: str) -> str:
        """The answers about ``text``, for servers with guided decoding."""
        return answer_gbnf(text, self.config.label_names, self.config.decoder.spacing)

    # -- results ------------------------------------------------------------------------------------------------------

    def tag_scores(self, steps: Sequence[Step]) -> npt.NDArray[Any]:
        """Log-probabilities float32 [words, tags] from the step of each word.

        Whatever all tags have in common (the rest of the vocabulary) goes out with the normalisation.
        """
        if not steps:
            return np.zeros((0, len(self.tags)), dtype=np.float32)
        rows = np.stack([tag_log_probs(step, self.tags) for step in steps]) / self.config.decoder.temperature
        shifted = rows - rows.max(axis=1, keepdims=True)
        result: npt.NDArray[Any] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return result.astype(np.float32)
