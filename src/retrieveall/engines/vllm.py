"""The engine that runs vLLM in this process, on a GPU. vLLM is imported when the first engine is made.

Every row has its own adapter. vLLM runs one adapter a row, so that a mixture is merged into one first (see
``engines.merging``); merged adapters lie in a temporary folder and the last ones used are kept. Tags are read as by
``engines.openai``: a word is a prompt with an answer of one token, of which only tag tokens are allowed, and the log-
probabilities are those after that restriction. Answers are written under the grammar of ``engines.remote_grammar``.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy.typing as npt

from retrieveall.adapters import AdapterPool
from retrieveall.adapters.weights import LoraWeights
from retrieveall.config import ModelConfig
from retrieveall.engines.answering import read_answer
from retrieveall.engines.base import Generated, GenerateRequest, TagRequest
from retrieveall.engines.merging import merge_adapters, merged_rank, write_adapter
from retrieveall.engines.remote_base import RemoteCodec, top_adapter
from retrieveall.engines.remote_reading import Step
from retrieveall.errors import ConfigError, EngineError, InputError, MissingExtraError

__all__ = ["MergedAdapters", "VllmEngine", "VllmSettings"]

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as max_lora_rank."""
_ALTERNATIVES = 5  # log-probabilities a token that are asked for with an answer

Mixture = tuple[tuple[str, float], ...]
"""Languages with their weights, by name; a single language of weight 1 is an adapter as it is."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs a model.

    ``mixture``: ``"merge"`` runs a mixture of adapters as one merged adapter, unless its rank is above
    ``max_lora_rank``; ``"top"`` runs the heaviest adapter alone. Weights of mixtures are rounded to multiples of
    ``weight_step``, so that similar mixtures share a merged adapter; 0 keeps them exact. ``max_merged`` merged
    adapters are kept on disk, and ``max_loras`` adapters run in one batch. ``options`` go to ``vllm.LLM`` as they are,
    such as ``{"tensor_parallel_size": 2}``.
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
    """Adapters as folders that vLLM can read: those of the model folder as they are, mixtures in a temporary folder.

    Every folder has a number of its own, which is never given again. ``close`` removes the temporary folder, and so
    does the end of the program.
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
        """What runs for these weights, () for the bare backbone.

        Weights are rounded and keep their sum; where merging is not wanted or the rank would be too high, the
        heaviest adapter runs with weight 1.
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
        """Number and folder of an adapter, merged now if need be.

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
        """Delete the merged adapters that were not used for longest; no request that uses them may be under way."""
        own = [mixture for mixture in self._known if self._is_own(mixture)]
        for mixture in own[: max(0, len(own) - self._settings.max_merged)]:
            _, path = self._known.pop(mixture)
            shutil.rmtree(path, ignore_errors=True)

    def refresh(self) -> None:
        """Forget all adapters: those of the folder may have changed. Numbers go on, so that vLLM loads them anew."""
        for mixture in list(self._known):
            _, path = self._known.pop(mixture)
            if path.is_relative_to(self._folder.name):
                shutil.rmtree(path, ignore_errors=True)
        self._uniform.clear()

    def _is_own(self, mixture: Mixture) -> bool:
        return self._known[mixture][1].is_relative_to(self._folder.name)

    def _as_it_is(self, mixture: Mixture) -> bool:
        """Whether an adapter of the folder can be read by vLLM: one rank, one scale, weight 1."""
        (name, weight), *more = mixture
        return not more and weight == 1.0 and self._check(name) is not None

    def _rank(self, weights: Mapping[str, float]) -> int:
        return sum(self._check(name) or merged_rank([self._pool.load(name)]) for name in weights)

    def _check(self, name: str) -> int | None:
        """The rank of an adapter, which is read and checked once; None if it has several ranks or scales."""
        if name not in self._uniform:
            self._uniform[name] = _uniform_rank(self._pool.load(name))
        return self._uniform[name]


def _uniform_rank(weights: LoraWeights) -> int | None:
    ranks = {layer.rank for layer in weights.layers.values()}
    scales = {layer.scaling for layer in weights.layers.values()}
    return ranks.pop() if len(ranks) == 1 and len(scales) == 1 else None


def _rounded(weights: Mapping[str, float], step: float) -> dict[str, float]:
    """Weights as multiples of ``step`` of their sum, at least one of them each time; the heaviest takes the rest."""
    total = sum(weights.values())
    if step == 0 or len(weights) == 1:
        return dict(weights)
    top = top_adapter(weights)
    steps = {name: round(weight / total / step) for name, weight in weights.items() if name != top}
    kept = {name: round(number * step * total, 9) for name, number in steps.items() if number > 0}
    assert top is not None
    return kept | {top: round(total - sum(kept.values()), 9)}


class VllmEngine(RemoteCodec):
    """Runs requests with vLLM in this process.

    Args:
        config: of the model folder.
        folder: the model folder, for its backbone, tokenizer and adapters.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigError: the decoder cannot run with vLLM, see ``RemoteCodec``.
        ModelFolderError, UnsafeFileError: as ``load_backbone``; nothing is unpickled and no code is run.
    """

    def __init__(self, config: ModelConfig, folder: Path, settings: VllmSettings | None = None) -> None:
        self._library, lora, params = _import_vllm()
        super().__init__(config, folder)
        self.settings = settings or VllmSettings()
        self._lora_request = lora.LoRARequest
        self._params = params
        self.adapters = MergedAdapters(AdapterPool(folder), self.settings)
        self._languages = bool(self._check_ranks(AdapterPool(folder)))
        self.llm = self._library.LLM(**self._options(folder))

    def close(self) -> None:
        """Remove the merged adapters."""
        self.adapters.close()

    def refresh(self) -> None:
        """See adapters that left the folder or changed there."""
        self.adapters.refresh()

    def tag(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[Any]]:
        """Log-probabilities float32 [words, tags] of each request, in the order given.

        Raises:
            EngineError: vLLM gave something else than was asked for.
        """
        prompts = [self.tag_prompts(request) for request in requests]
        rows = [(ids, request.adapters) for request, own in zip(requests, prompts, strict=True) for ids in own]
        tokens = list(self.tags)
        params = self._params.SamplingParams(
            max_tokens=1, temperature=0.0, logprobs=len(tokens), allowed_token_ids=tokens, detokenize=False
        )
        steps = iter(self._generated(rows, [params] * len(rows)))
        results = []
        for own in prompts:
            found = [next(steps)[0] for _ in own]
            if any(len(each) != 1 for each in found):
                raise EngineError("expected one token a word from vLLM, got another number; report this")
            results.append(self.tag_scores([each[0] for each in found]))
        return results

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Generated]:
        """The answer to each request, in the order given.

        Raises:
            EngineError: as ``tag``.
        """
        rows = [(self.question(request), request.adapters) for request in requests]
        params = [self._answer_params(request.text) for request in requests]
        labels, constrained = self.config.label_names, self.config.decoder.constrained
        answers = []
        for (steps, stopped), request in zip(self._generated(rows, params), requests, strict=True):
            written = self.reader.read(steps, stopped=stopped)
            answers.append(read_answer(written, request.text, labels, constrained=constrained))
        return answers

    def _check_ranks(self, pool: AdapterPool) -> tuple[str, ...]:
        """The languages of the pool, once each adapter is known to fit into ``max_lora_rank``."""
        for language in pool.languages():
            if (rank := pool.card(language).rank) > self.settings.max_lora_rank:
                raise ConfigError(
                    f"the adapter {language!r} has rank {rank}, more than max_lora_rank {self.settings.max_lora_rank}; "
                    "raise it in VllmSettings"
                )
        return pool.languages()

    def _answer_params(self, text: str) -> Any:
        options: dict[str, Any] = {}
        if self.config.decoder.constrained:
            options["structured_outputs"] = self._params.StructuredOutputsParams(grammar=self.grammar(text))
        return self._params.SamplingParams(
            max_tokens=self.config.decoder.max_answer_tokens,
            temperature=0.0,
            logprobs=_ALTERNATIVES,
            stop_token_ids=list(self.ends),
            detokenize=False,
            **options,
        )

    def _generated(
        self, rows: Sequence[tuple[list[int], Mapping[str, float]]], params: Sequence[Any]
    ) -> list[tuple[list[Step], bool]]:
        """The generated tokens of each row and whether the model came to an end."""
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
        """Stretches of rows that need at most ``max_merged`` different adapters."""
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
        for token, told in zip(made.token_ids, made.logprobs, strict=True):
            others: dict[int | str, float] = {int(each): max(float(one.logprob), -1e4) for each, one in told.items()}
            if any(value != value for value in others.values()):
                raise EngineError("the model's scores contain NaN; set backbone.dtype to bfloat16 or float32")
            steps.append(Step(int(token), self.codec.decode([token]), others[int(token)], others))
        return steps, made.finish_reason == "stop"

    def _options(self, folder: Path) -> dict[str, Any]:
        """Keyword arguments of ``vllm.LLM``."""
        from retrieveall.engines.transformers import backbone_source

        decoder, backbone = self.config.decoder, self.config.backbone
        four_bits = backbone.quantization == "4bit"
        answer = decoder.max_answer_tokens if self.generates else 1
        options: dict[str, Any] = {
            "model": backbone_source(self.config, folder),
            "revision": backbone.revision,
            "dtype": backbone.dtype,
            "trust_remote_code": False,
            "load_format": "bitsandbytes" if four_bits else "safetensors",  # never a pickle
            # The task and the text stay even where they alone take more than the budget.
            "max_model_len": self.config.prompt.max_tokens * 3 // 2 + answer,
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",  # after the restriction to tags, or by the grammar
            "max_logprobs": max(20, len(self.tags)),
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
    """``vllm``, and its modules of adapters and of parameters."""
    try:
        modules = [import_module(name) for name in ("vllm", "vllm.lora.request", "vllm.sampling_params")]
    except ImportError:
        raise MissingExtraError("vllm", "vllm", "the engine 'vllm'") from None
    if not hasattr(modules[2], "StructuredOutputsParams"):
        raise ConfigError("expected vLLM 0.11 or newer, with StructuredOutputsParams; upgrade: pip install -U vllm")
    return modules[0], modules[1], modules[2]
