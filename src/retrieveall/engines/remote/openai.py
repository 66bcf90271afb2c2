"""The engine for servers with the OpenAI completions API, such as vLLM and SGLang.

The server runs the backbone and the adapters, each under a name; the tokenizer and the knowledge are local. A server
runs one adapter per request, so a mixture runs only the adapter with the largest weight.

Tagging: the tag of a word is the next token after its last sub-word in the second copy of the text, among the tag
tokens. Each word is a separate prompt with a one-token answer; the server's prefix cache shares their common prefix.
The scores of all tag tokens are requested in three ways, of which servers ignore the unsupported ones:
``logprob_token_ids`` (vLLM), ``allowed_token_ids`` (vLLM with processed log-probabilities), and an equal
``logit_bias`` for all tags (SGLang). Each is exact after normalisation over the tags. ``prompt_logprobs`` would need
only one pass, but contain only the likeliest tokens of the vocabulary, possibly without the tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from retrieveall.config import ModelConfig
from retrieveall.engines.base import Failure, ScoreRequest, Scores, WriteRequest, Written
from retrieveall.engines.remote.client import CallError, ServerClient
from retrieveall.engines.remote.reading import AnswerReader, Step, choice_steps, completion_choices
from retrieveall.engines.remote.requests import (
    open_codec,
    scores_of,
    single_prompts,
    stop_tokens,
    top_adapter,
    write_grammar,
)
from retrieveall.engines.remote.settings import Guidance, ServerSettings
from retrieveall.errors import EngineError

__all__ = ["OpenAIEngine"]

_PROMPTS = 64  # of one request
_BIAS = 100.0  # the most that the protocol allows
_ALTERNATIVES = 5  # log-probabilities requested per token of an answer
_GUIDANCE: dict[str, Guidance] = {"vllm": "structured_outputs", "sglang": "ebnf"}

T = TypeVar("T")


class OpenAIEngine:
    """Runs requests on a server, ``settings.concurrency`` at once.

    Args:
        config: of the model folder.
        folder: the model folder, for its tokenizer.

    Raises:
        ConfigError: the decoder cannot run on a server, see ``open_codec``.
        MissingExtraError: httpx is not installed.
    """

    unforkable = "its connections belong to the parent process"

    def __init__(self, config: ModelConfig, folder: Path, settings: ServerSettings) -> None:
        self.codec = open_codec(config, folder)
        self.settings = settings
        self.client = ServerClient(settings)
        self._served: dict[str, dict[str, Any]] | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def refresh(self) -> None:
        """List the server's models again at the next request."""
        with self._lock:
            self._served = None

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """Log-probabilities float32 [positions, candidates] of each request, up to a constant per row, in order.

        Raises:
            EngineError: the server is not reachable.
        """
        return self._run([partial(self._score, request) for request in requests])

    def write(self, requests: Sequence[WriteRequest]) -> list[Written | Failure]:
        """The answer to each request, in order.

        Raises:
            ConfigError: the tokenizer has no end token.
            EngineError: as ``score``.
        """
        ends = stop_tokens(self.codec)
        reader = AnswerReader(self.codec, ends)
        return self._run([partial(self._write, request, ends, reader) for request in requests])

    def _run(self, jobs: Sequence[Callable[[], T]]) -> list[T | Failure]:
        if not jobs:
            return []
        self._models()  # a single error if the server is not reachable
        return self.client.run(jobs)

    # -- one request --------------------------------------------------------------------------------------------------

    def _score(self, request: ScoreRequest) -> Scores:
        prompts = single_prompts(request)
        tokens = {token: self.codec.decode([token]) for token in request.candidates}
        model = self._model(request.adapters)
        steps: list[Step] = []
        for first in range(0, len(prompts), _PROMPTS):
            batch = prompts[first : first + _PROMPTS]
            answer = self.client.call("/completions", self._score_body(model, batch, list(tokens)))
            for choice in completion_choices(answer, len(batch)):
                steps.append(self._only(choice_steps(choice, self.codec)))
        return scores_of(steps, tokens)

    def _score_body(self, model: str, prompts: list[list[int]], tokens: list[int]) -> dict[str, Any]:
        return {
            **self._common(model),
            "prompt": prompts,
            "max_tokens": 1,
            "logprobs": len(tokens),
            "logprob_token_ids": tokens,
            "allowed_token_ids": tokens,
            "logit_bias": {str(token): _BIAS for token in tokens},
        }

    def _write(self, request: WriteRequest, ends: tuple[int, ...], reader: AnswerReader) -> Written:
        guided = self._guided(request)
        body = {
            **self._common(self._model(request.adapters)),
            "prompt": list(request.ids),
            "max_tokens": request.max_tokens,
            "logprobs": _ALTERNATIVES,
            "stop_token_ids": list(ends),
            **guided,
        }
        choice = completion_choices(self.client.call("/completions", body), 1)[0]
        text = choice.get("text")
        return reader.read(
            choice_steps(choice, self.codec),
            stopped=choice.get("finish_reason") == "stop",
            constrained=bool(guided),
            text=text if isinstance(text, str) else None,
        )

    def _common(self, model: str) -> dict[str, Any]:
        return {
            "model": model,
            "temperature": 0.0,
            "stream": False,
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "return_tokens_as_token_ids": True,
        }

    @staticmethod
    def _only(steps: list[Step]) -> Step:
        if len(steps) != 1:
            raise EngineError(f"expected the log-probabilities of one token per word, got those of {len(steps)}")
        return steps[0]

    def _guided(self, request: WriteRequest) -> dict[str, Any]:
        """The request field with the grammar; empty if the server has none or it is disabled."""
        field = self.guidance() if request.constrained else "off"
        if field == "off":
            return {}
        grammar = write_grammar(request)
        return {field: {"grammar": grammar} if field == "structured_outputs" else grammar}

    def guidance(self) -> Guidance:
        """The server's request field for a grammar; "off" if it has none and answers are unconstrained."""
        if self.settings.guidance != "auto":
            return self.settings.guidance
        owners = {str(model.get("owned_by")) for model in self._models().values()}
        return next((field for owner, field in _GUIDANCE.items() if owner in owners), "off")

    # -- models of the server -----------------------------------------------------------------------------------------

    def _models(self) -> dict[str, dict[str, Any]]:
        """The models that the server lists, by name."""
        with self._lock:
            if self._served is None:
                listed = self.client.call("/models").get("data")
                if not isinstance(listed, list):
                    raise EngineError(f"expected a list of models from {self.settings.address}/models, got none")
                found = {
                    each["id"]: each for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)
                }
                self._served = found
            return self._served

    def _model(self, adapters: Any) -> str:
        """The server's model name for a request.

        Raises:
            CallError: the server has no such model.
        """
        language = top_adapter(adapters)
        if language is None:
            return self._base()
        name = self.settings.adapter_name(language)
        if name not in self._models() and not self.settings.is_named(language):
            raise CallError(
                f"expected the adapter {language!r} on the server, it has {self._list()}; "
                f"start it with --lora-modules {language}=..., or give its name in adapters"
            )
        return name

    def _base(self) -> str:
        if self.settings.model is not None:
            return self.settings.model
        bases = [name for name, model in self._models().items() if not model.get("parent")]
        adapters = {self.settings.adapter_name(language) for language in self._adapter_languages()}
        bases = [name for name in bases if name not in adapters]
        if len(bases) != 1:
            raise CallError(f"expected one backbone on the server, it has {self._list()}; name it with model")
        return bases[0]

    def _adapter_languages(self) -> tuple[str, ...]:
        return () if isinstance(self.settings.adapters, str) else tuple(self.settings.adapters)

    def _list(self) -> str:
        names = sorted(self._models())
        return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"
