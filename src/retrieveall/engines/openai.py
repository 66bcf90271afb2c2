"""The engine for any server that speaks the completions protocol: vLLM, SGLang and the like.

The backbone and the adapters run there, under names; here are only the tokenizer and the knowledge. A server runs one
adapter a request, so that of a mixture the heaviest adapter runs.

Tagging: the tag of a word is the next token after its last sub-word in the second copy of the text, among the tag
tokens. Each word is a prompt of its own with an answer of one token; the server's prefix cache shares their common
beginning. The scores of all tag tokens are asked for in the three ways there are, of which servers ignore those that
they do not know: ``logprob_token_ids`` (vLLM), ``allowed_token_ids`` (vLLM with processed log-probabilities), and a
``logit_bias`` that is the same for all tags (SGLang). Each is exact after normalisation over the tags. The
``prompt_logprobs`` of one pass would be cheaper but hold only the likeliest tokens of the whole vocabulary, among
which the tags need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy.typing as npt

from retrieveall.config import ModelConfig
from retrieveall.engines.answering import read_answer
from retrieveall.engines.base import Generated, GenerateRequest, TagRequest
from retrieveall.engines.remote_base import RemoteCodec, top_adapter
from retrieveall.engines.remote_client import CallError, ServerClient
from retrieveall.engines.remote_reading import Step, choice_steps, completion_choices
from retrieveall.engines.remote_settings import Guidance, ServerSettings
from retrieveall.errors import EngineError

__all__ = ["OpenAIEngine"]

_PROMPTS = 64  # of one request
_BIAS = 100.0  # the most that the protocol allows
_ALTERNATIVES = 5  # log-probabilities a token that are asked for with an answer
_GUIDANCE: dict[str, Guidance] = {"vllm": "structured_outputs", "sglang": "ebnf"}

T = TypeVar("T")


class OpenAIEngine(RemoteCodec):
    """Runs requests at a server, ``settings.concurrency`` at once.

    Args:
        config: of the model folder.
        folder: the model folder, for its tokenizer.

    Raises:
        ConfigError: the decoder cannot run at a server, see ``RemoteCodec``.
        MissingExtraError: httpx is not installed.
    """

    def __init__(self, config: ModelConfig, folder: Path, settings: ServerSettings) -> None:
        super().__init__(config, folder)
        self.settings = settings
        self.client = ServerClient(settings)
        self._served: dict[str, dict[str, Any]] | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def refresh(self) -> None:
        """Ask the server again which models it has, at the next request."""
        with self._lock:
            self._served = None

    def tag(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[Any]]:
        """Log-probabilities float32 [words, tags] of each request, in the order given.

        Raises:
            EngineError: at the end, where some requests failed; ``failures`` and ``results`` hold which, and the rest.
        """
        return self._run([partial(self._tag, request) for request in requests])

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Generated]:
        """The answer to each request, in the order given.

        Raises:
            EngineError: as ``tag``.
        """
        return self._run([partial(self._generate, request) for request in requests])

    def _run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        if not jobs:
            return []
        self._models()  # one clear error if there is no server, before many of them
        return self.client.run(jobs)

    # -- one request --------------------------------------------------------------------------------------------------

    def _tag(self, request: TagRequest) -> npt.NDArray[Any]:
        prompts = self.tag_prompts(request)
        model = self._model(request.adapters)
        steps: list[Step] = []
        for first in range(0, len(prompts), _PROMPTS):
            batch = prompts[first : first + _PROMPTS]
            answer = self.client.call("/completions", self._tag_body(model, batch))
            for choice in completion_choices(answer, len(batch)):
                steps.append(self._only(choice_steps(choice, self.codec)))
        return self.tag_scores(steps)

    def _tag_body(self, model: str, prompts: list[list[int]]) -> dict[str, Any]:
        tokens = list(self.tags)
        return {
            **self._common(model),
            "prompt": prompts,
            "max_tokens": 1,
            "logprobs": len(tokens),
            "logprob_token_ids": tokens,
            "allowed_token_ids": tokens,
            "logit_bias": {str(token): _BIAS for token in tokens},
        }

    def _generate(self, request: GenerateRequest) -> Generated:
        body = {
            **self._common(self._model(request.adapters)),
            "prompt": self.question(request),
            "max_tokens": self.config.decoder.max_answer_tokens,
            "logprobs": _ALTERNATIVES,
            "stop_token_ids": list(self.ends),
            **self._guided(request.text),
        }
        choice = completion_choices(self.client.call("/completions", body), 1)[0]
        text = choice.get("text")
        written = self.reader.read(
            choice_steps(choice, self.codec),
            stopped=choice.get("finish_reason") == "stop",
            text=text if isinstance(text, str) else None,
        )
        guided = self.guidance() != "off"
        return read_answer(written, request.text, self.config.label_names, constrained=guided)

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
            raise EngineError(f"expected the log-probabilities of one token a word, got those of {len(steps)}")
        return steps[0]

    def _guided(self, text: str) -> dict[str, Any]:
        """The field with the grammar; nothing where the server has none or none is wanted."""
        field = self.guidance()
        if field == "off":
            return {}
        grammar = self.grammar(text)
        return {field: {"grammar": grammar} if field == "structured_outputs" else grammar}

    def guidance(self) -> Guidance:
        """How the server is told a grammar; "off" where answers are written freely and read afterwards."""
        if not self.config.decoder.constrained:
            return "off"
        if self.settings.guidance != "auto":
            return self.settings.guidance
        owners = {str(model.get("owned_by")) for model in self._models().values()}
        return next((field for owner, field in _GUIDANCE.items() if owner in owners), "off")

    # -- which models there are ---------------------------------------------------------------------------------------

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
        """The name under which the server runs a request.

        Raises:
            CallError: it has none of that name.
        """
        language = top_adapter(adapters)
        if language is None:
            return self._base()
        name = self.settings.adapter_name(language)
        if name not in self._models() and not self.settings.is_named(language):
            raise CallError(
                f"expected the adapter {language!r} at the server, it has {self._list()}; "
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
            raise CallError(f"expected one backbone at the server, it has {self._list()}; name it with model")
        return bases[0]

    def _adapter_languages(self) -> tuple[str, ...]:
        return () if isinstance(self.settings.adapters, str) else tuple(self.settings.adapters)

    def _list(self) -> str:
        names = sorted(self._models())
        return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"
