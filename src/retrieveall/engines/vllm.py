"""The engine that runs vLLM in this process, on a GPU. vLLM is imported when the first engine is created.

vLLM runs one adapter per row, so a mixture is first merged into one (see ``engines.merge``); the most recently used
merged adapters are kept in a temporary folder. Tags are read as in ``engines.remote.openai``: each word is a prompt
with a one-token answer restricted to tag tokens, whose log-probabilities are normalised over them. Answers are
generated under the grammar of ``answers.gbnf``.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from retrieveall.adapters import AdapterPool
from retrieveall.adapters.pool import write_adapter
from retrieveall.adapters.weights import LoraWeights
from retrieveall.config import ModelConfig
from retrieveall.engines.base import Failure, ScoreRequest, Scores, WriteRequest, Written
from retrieveall.engines.merge import merge_adapters, merged_rank
from retrieveall.engines.remote.reading import AnswerReader, Step
from retrieveall.engines.remote.requests import (
    open_codec,
    scores_of,
    single_prompts,
    stop_tokens,
    top_adapter,
    write_grammar,
)
from retrieveall.errors import ConfigError, EngineError, InputError, MissingExtraError

__all__ = ["MergedAdapters", "VllmEngine", "VllmSettings"]

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM accepts as max_lora_rank."""
_ALTERNATIVES = 5  # log-probabilities requested per token of an answer

Mixture = tuple[tuple[str, float], ...]
"""Languages with weights, sorted by name; a single language of weight 1 is an unmerged adapter."""


@dataclass(frozen=True)
class VllmSettings:
    """Settings of the vLLM engine.

    ``mixture``: ``"merge"`` merges a mixture of adapters into one, unless its rank exceeds ``max_lora_rank``; ``"top"``
    runs only the adapter with the largest weight. Mixture weights are rounded to multiples of ``weight_step``, so that
    similar mixtures share a merged adapter; 0 disables rounding. ``max_merged`` merged adapters are kept on disk, and
    at most ``max_loras`` adapters run in one batch. ``options`` are passed to ``vllm.LLM``, such as
    ``{"tensor_parallel_size": 2}``.
    """

    mixture: Literal["merge", "top"] = "merge"
    max_lora_rank: int = 64
    max_loras: int = 8
    max_merged: int = 32
    weight_step: float = 0.05
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mixture not in ("merge", "top") or self.max_lora_rank not in _RANKS:
            raise InputError(
                f"expected mixture 'merge' or 'top' and max_lora_rank among {_RANKS}, "
                f"got {self.mixture!r} and {self.max_lora_rank}"
            )
        if self.max_loras < 1 or self.max_merged < 1 or not 0 <= self.weight_step <= 0.5:
            raise InputError("expected max_loras and max_merged of at least 1 and weight_step from 0 to 0.5")


class MergedAdapters:
    """Adapter folders for vLLM: those of the model folder, and merged mixtures in a temporary folder.

    Every folder has a unique number that is never reused. The temporary folder is deleted by ``close`` or at exit.
    """

    def __init__(self, pool: AdapterPool, settings: VllmSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._folder = TemporaryDirectory(prefix="retrieveall-merged-")
        self._numbers = count(1)
        self._known: OrderedDict[Mixture, tuple[int, Path]] = OrderedDict()
        self._uniform: dict[str, int | None] = {}

    def close(self) -> None:
        self._folder.cleanup()
        self._known.clear()

    def mixture(self, adapters: Mapping[str, float]) -> Mixture:
        """The mixture to run for these weights, () for the backbone alone.

        Weights are rounded and keep their sum; if merging is disabled or the rank would be too high, the adapter with
        the largest weight runs alone.
        """
        weighted = {name: weight for name, weight in adapters.items() if weight > 0.0}
        top = top_adapter(weighted)
        if top is None:
            return ()
        rounded = _rounded(weighted, self._settings.weight_step)
        if self._settings.mixture == "top" or self._rank(rounded) > self._settings.max_lora_rank:
            return ((top, 1.0),)
        return tuple(sorted(rounded.items()))

    def open(self, mixture: Mixture) -> tuple[int, Path]:
        """Number and folder of an adapter, merged if necessary.

        Raises:
            LanguageError, AdapterError, ModelFolderError: as ``AdapterPool.load``.
        """
        if mixture not in self._known:
            number = next(self._numbers)
            if self._as_it_is(mixture):
                path = self._pool.folder(mixture[0][0])
            else:
                path = Path(self._folder.name) / str(number)
                write_adapter(path, merge_adapters([(self._pool.load(name), weight) for name, weight in mixture]))
            self._known[mixture] = number, path
        self._known.move_to_end(mixture)
        return self._known[mixture]

    def trim(self) -> None:
        """Delete the least recently used merged adapters; no running request may use them."""
        own = [mixture for mixture in self._known if self._is_own(mixture)]
        for mixture in own[: max(0, len(own) - self._settings.max_merged)]:
            _, path = self._known.pop(mixture)
            shutil.rmtree(path, ignore_errors=True)

    def refresh(self) -> None:
        """Forget all adapters, which may have changed. Numbers are not reused, so vLLM loads the adapters again."""
        for mixture in list(self._known):
            _, path = self._known.pop(mixture)
            if path.is_relative_to(self._folder.name):
                shutil.rmtree(path, ignore_errors=True)
        self._uniform.clear()

    def _is_own(self, mixture: Mixture) -> bool:
        return self._known[mixture][1].is_relative_to(self._folder.name)

    def _as_it_is(self, mixture: Mixture) -> bool:
        """Whether vLLM can read the adapter unmerged: one rank, one scale, weight 1."""
        (name, weight), *more = mixture
        return not more and weight == 1.0 and self._check(name) is not None

    def _rank(self, weights: Mapping[str, float]) -> int:
        return sum(self._check(name) or merged_rank([self._pool.load(name)]) for name in weights)

    def _check(self, name: str) -> int | None:
        """The rank of an adapter, read and checked once; None if it has several ranks or scales."""
        if name not in self._uniform:
            self._uniform[name] = _uniform_rank(self._pool.load(name))
        return self._uniform[name]


def _uniform_rank(weights: LoraWeights) -> int | None:
    ranks = {layer.rank for layer in weights.layers.values()}
    scales = {layer.scaling for layer in weights.layers.values()}
    return ranks.pop() if len(ranks) == 1 and len(scales) == 1 else None


def _rounded(weights: Mapping[str, float], step: float) -> dict[str, float]:
    """Weights rounded to at least one multiple of ``step`` times their sum; the largest gets the remainder."""
    total = sum(weights.values())
    if step == 0 or len(weights) == 1:
        return dict(weights)
    top = top_adapter(weights)
    steps = {name: round(weight / total / step) for name, weight in weights.items() if name != top}
    kept = {name: round(number * step * total, 9) for name, number in steps.items() if number > 0}
    assert top is not None
    return kept | {top: round(total - sum(kept.values()), 9)}


class VllmEngine:
    """Runs requests with vLLM in this process.

    Args:
        config: of the model folder.
        folder: the model folder, for its backbone, tokenizer and adapters.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigError: the decoder cannot run with vLLM, see ``open_codec``.
        ModelFolderError, UnsafeFileError: as ``load_backbone``; nothing is unpickled and no code is run.
    """

    unforkable = "vLLM runs on a GPU"

    def __init__(self, config: ModelConfig, folder: Path, settings: VllmSettings | None = None) -> None:
        self._library, lora, params = _import_vllm()
        self.codec = open_codec(config, folder)
        self.settings = settings or VllmSettings()
        self._lora_request = lora.LoRARequest
        self._params = params
        self.adapters = MergedAdapters(AdapterPool(folder), self.settings)
        self._languages = bool(self._check_ranks(AdapterPool(folder)))
        self.llm = self._library.LLM(**self._options(config, folder))

    def close(self) -> None:
        """Remove the merged adapters."""
        self.adapters.close()

    def refresh(self) -> None:
        """Pick up adapters changed in or removed from the folder."""
        self.adapters.refresh()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """Log-probabilities float32 [positions, candidates] of each request, in order.

        Raises:
            EngineError: vLLM returned an unexpected result.
        """
        prompts = [single_prompts(request) for request in requests]
        rows = [(ids, request.adapters) for request, own in zip(requests, prompts, strict=True) for ids in own]
        params = [
            shared
            for request, own in zip(requests, prompts, strict=True)
            for shared in [self._score_params(request)] * len(own)
        ]
        steps = iter(self._generated(rows, params))
        results: list[Scores | Failure] = []
        for request, own in zip(requests, prompts, strict=True):
            found = [next(steps)[0] for _ in own]
            if any(len(each) != 1 for each in found):
                raise EngineError("expected one token per word from vLLM, got another number; report this")
            tokens = {token: self.codec.decode([token]) for token in request.candidates}
            results.append(scores_of([each[0] for each in found], tokens))
        return results

    def write(self, requests: Sequence[WriteRequest]) -> list[Written | Failure]:
        """The answer to each request, in order.

        Raises:
            ConfigError: the tokenizer has no end token.
            EngineError: as ``score``.
        """
        ends = stop_tokens(self.codec)
        reader = AnswerReader(self.codec, ends)
        rows = [(list(request.ids), request.adapters) for request in requests]
        params = [self._write_params(request, ends) for request in requests]
        return [
            reader.read(steps, stopped=stopped, constrained=request.constrained)
            for (steps, stopped), request in zip(self._generated(rows, params), requests, strict=True)
        ]

    def _check_ranks(self, pool: AdapterPool) -> tuple[str, ...]:
        """The languages of the pool, after checking that each adapter fits ``max_lora_rank``."""
        for language in pool.languages():
            if (rank := pool.card(language).rank) > self.settings.max_lora_rank:
                raise ConfigError(
                    f"the adapter {language!r} has rank {rank}, more than max_lora_rank {self.settings.max_lora_rank}; "
                    "raise it in VllmSettings"
                )
        return pool.languages()

    def _score_params(self, request: ScoreRequest) -> Any:
        tokens = list(request.candidates)
        return self._params.SamplingParams(
            max_tokens=1, temperature=0.0, logprobs=len(tokens), allowed_token_ids=tokens, detokenize=False
        )

    def _write_params(self, request: WriteRequest, ends: tuple[int, ...]) -> Any:
        options: dict[str, Any] = {}
        if request.constrained:
            options["structured_outputs"] = self._params.StructuredOutputsParams(grammar=write_grammar(request))
        return self._params.SamplingParams(
            max_tokens=request.max_tokens,
            temperature=0.0,
            logprobs=_ALTERNATIVES,
            stop_token_ids=list(ends),
            detokenize=False,
            **options,
        )

    def _generated(
        self, rows: Sequence[tuple[list[int], Mapping[str, float]]], params: Sequence[Any]
    ) -> list[tuple[list[Step], bool]]:
        """The generated tokens of each row and whether it ended with an end token."""
        results: list[tuple[list[Step], bool]] = []
        for first, last in self._spans([self.adapters.mixture(adapters) for _, adapters in rows]):
            part = rows[first:last]
            outputs = self.llm.generate(
                [{"prompt_token_ids": ids} for ids, _ in part],
                list(params[first:last]),
                lora_request=[self._lora(self.adapters.mixture(adapters)) for _, adapters in part],
                use_tqdm=False,
            )
            self.adapters.trim()
            if len(outputs) != len(part):
                raise EngineError(f"expected {len(part)} outputs from vLLM, got {len(outputs)}")
            results += [self._steps(output) for output in outputs]
        return results

    def _spans(self, mixtures: Sequence[Mixture]) -> Iterator[tuple[int, int]]:
        """Ranges of rows that need at most ``max_merged`` different adapters."""
        first, used = 0, set[Mixture]()
        for number, mixture in enumerate(mixtures):
            if mixture not in used and len(used) == self.settings.max_merged:
                yield first, number
                first, used = number, set()
            used.add(mixture)
        if mixtures:
            yield first, len(mixtures)

    def _lora(self, mixture: Mixture) -> Any:
        if not mixture:
            return None
        number, path = self.adapters.open(mixture)
        return self._lora_request("+".join(name for name, _ in mixture) + f"#{number}", number, str(path))

    def _steps(self, output: Any) -> tuple[list[Step], bool]:
        made = output.outputs[0]
        if made.logprobs is None or len(made.logprobs) != len(made.token_ids):
            raise EngineError("expected the log-probabilities of every token from vLLM, got none; report this")
        steps = []
        for token, likeliest in zip(made.token_ids, made.logprobs, strict=True):
            others: dict[int | str, float] = {int(i): max(float(one.logprob), -1e4) for i, one in likeliest.items()}
            if any(value != value for value in others.values()):
                raise EngineError("the model's scores contain NaN; set backbone.dtype to bfloat16 or float32")
            steps.append(Step(int(token), self.codec.decode([token]), others[int(token)], others))
        return steps, made.finish_reason == "stop"

    def _options(self, config: ModelConfig, folder: Path) -> dict[str, Any]:
        """Keyword arguments of ``vllm.LLM``."""
        from retrieveall.engines.local.backbone import backbone_source

        backbone = config.backbone
        four_bits = backbone.quantization == "4bit"
        candidates = 1 + 4 * len(config.labels)  # O, and B, I, E, S of each label
        options: dict[str, Any] = {
            "model": backbone_source(config, folder),
            "revision": backbone.revision,
            "dtype": backbone.dtype,
            "trust_remote_code": False,
            "load_format": "bitsandbytes" if four_bits else "safetensors",  # no pickles
            # Task and text are kept even if they alone exceed the budget.
            "max_model_len": config.prompt.max_tokens * 3 // 2 + max(1, config.decoder.longest_answer),
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",  # after the restriction to tags, or by the grammar
            "max_logprobs": max(20, candidates),
            "seed": 0,
        }
        if four_bits:
            options["quantization"] = "bitsandbytes"
        if self._languages:
            options |= {
                "enable_lora": True,
                "max_lora_rank": self.settings.max_lora_rank,
                "max_loras": self.settings.max_loras,
            }
        return options | dict(self.settings.options)


def _import_vllm() -> tuple[Any, Any, Any]:
    """``vllm`` and its modules for LoRA requests and sampling parameters."""
    try:
        modules = [import_module(name) for name in ("vllm", "vllm.lora.request", "vllm.sampling_params")]
    except ImportError:
        raise MissingExtraError("vllm", "vllm", "the engine 'vllm'") from None
    if not hasattr(modules[2], "StructuredOutputsParams"):
        raise ConfigError(
            "expected vLLM 0.11 or newer, with StructuredOutputsParams; upgrade: "
            f"{shlex.quote(sys.executable)} -m pip install -U vllm"
        )
    return modules[0], modules[1], modules[2]
