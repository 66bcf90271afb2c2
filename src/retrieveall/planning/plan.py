"""The full estimate for one configuration, corpus and GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retrieveall.backbones import Architecture
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.decoders.tagging import TagSet
from retrieveall.errors import InputError
from retrieveall.planning.gpus import Gpu
from retrieveall.planning.memory import InferenceMemory, TrainingMemory, inference_memory, training_memory, weight_bytes
from retrieveall.planning.tokens import EstimatedCounter, RowTokens, TokenCounter, row_tokens
from retrieveall.types import Sentence

__all__ = ["LanguageTokens", "Plan", "make_plan"]

LanguageTokens = Mapping[str, RowTokens]

_ROWS = 64  # of a generating batch
_BATCH_TOKENS = 16_384  # of a generating batch's prompts, or of a tagging batch
_LOADED = 64  # adapters that the bank keeps in memory
_DECODING = 0.6
"""Share of the memory bandwidth used by single-token steps; Python overhead takes the rest."""


@dataclass(frozen=True)
class Plan:
    """An estimate in bytes, tokens and seconds; ``None`` where a corpus or GPU would be needed."""

    backbone: str
    decoder: str
    backbone_parameters: int
    adapter_parameters: int
    adapters: int
    weight_bytes: int
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    quantization: str
    row_length: int
    training: TrainingMemory
    inference: InferenceMemory
    epochs: float
    count_method: str | None = None
    languages: LanguageTokens | None = None
    tokens_per_epoch: int | None = None
    steps_per_epoch: int | None = None
    flops_per_epoch: float | None = None
    gpu: Gpu | None = None
    utilisation: float | None = None
    seconds_per_epoch: float | None = None
    seconds_of_training: float | None = None
    sentences_per_second: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with memory totals."""
        facts = asdict(self)
        facts["training"]["total"] = self.training.total
        facts["inference"]["total"] = self.inference.total
        return facts


def make_plan(
    config: ModelConfig,
    architecture: Architecture,
    training: TrainingConfig,
    corpus: Mapping[str, Sequence[Sentence]] | None = None,
    *,
    counter: TokenCounter | None = None,
    gpu: Gpu | None = None,
    utilisation: float = 0.35,
) -> Plan:
    """Estimate a run.

    Args:
        corpus: training sentences by language; without it, rows have the maximum prompt length.
        counter: counts tokens; an estimate by script if None.
        utilisation: share of the GPU's peak reached in training and on long prompts.

    Raises:
        InputError: a language without sentences, or a utilisation outside 0 to 1.
        ConfigError: the backbone has none of the target modules.
    """
    if not 0 < utilisation <= 1:
        raise InputError(f"expected a utilisation above 0 and at most 1, got {utilisation}")
    counter = counter or EstimatedCounter()
    rows = {language: _rows(language, own, config, counter) for language, own in (corpus or {}).items()}
    answer = config.decoder.longest_answer
    longest = max((each.longest for each in rows.values()), default=config.prompt.max_tokens)
    predicted = max((max(each.answer, each.tags) for each in rows.values()), default=config.prompt.max_tokens / 4)
    packed = _packed_length(config, training)
    length = packed or longest
    mean = max((each.mean for each in rows.values()), default=longest)
    adapters = max(1, len(rows))
    facts: dict[str, Any] = {
        "backbone": config.backbone.path,
        "decoder": config.decoder.kind,
        "backbone_parameters": architecture.parameters(),
        "adapter_parameters": architecture.adapter_parameters(training.lora.rank, training.lora.target_modules),
        "adapters": adapters,
        "weight_bytes": weight_bytes(architecture, config.backbone),
        "batch_size": training.batch_size,
        "gradient_accumulation": training.gradient_accumulation,
        "gradient_checkpointing": training.gradient_checkpointing,
        "quantization": config.backbone.quantization,
        "row_length": length,
        "epochs": training.epochs,
    }
    facts["training"] = training_memory(
        architecture,
        config.backbone,
        training.lora,
        adapters=adapters,
        tokens=training.batch_size * length,
        read_tokens=round(training.batch_size * predicted * (length / mean if packed else 1)),
        read_vocabulary=architecture.vocab_size if answer else len(TagSet(config.label_names)),
        checkpointing=training.gradient_checkpointing,
        half=config.backbone.dtype != "float32" or training.mixed_precision != "no",
    )
    at_once = max(1, min(_ROWS, _BATCH_TOKENS // longest))
    facts["inference"] = inference_memory(
        architecture,
        config.backbone,
        training.lora,
        adapters=min(adapters, _LOADED),
        row_tokens=longest + answer,
        rows=at_once if answer else 1,
        batch_tokens=at_once * longest,
        writes=answer > 0,
    )
    if gpu is not None:
        facts |= {"gpu": gpu, "utilisation": utilisation}
    if rows:
        facts |= _corpus_facts(architecture, config, training, rows, counter)
        if gpu is not None:
            facts |= _times(architecture, facts, training, rows, gpu, utilisation)
    return Plan(**facts)


def _packed_length(config: ModelConfig, training: TrainingConfig) -> int | None:
    """Tokens of a packed row, as in ``training.session``; None where a row holds one sentence."""
    if not training.packing or config.backbone.kernel == "flash_attention_2":
        return None
    return training.row_length or config.prompt.max_tokens + config.decoder.longest_answer


def _rows(language: str, sentences: Sequence[Sentence], config: ModelConfig, counter: TokenCounter) -> RowTokens:
    if not sentences:
        raise InputError(f"expected training sentences of {language!r}, got none; leave the language out")
    return row_tokens(sentences, config, counter)


def _corpus_facts(
    architecture: Architecture,
    config: ModelConfig,
    training: TrainingConfig,
    rows: LanguageTokens,
    counter: TokenCounter,
) -> dict[str, Any]:
    packed = _packed_length(config, training)
    batch = training.batch_size * training.gradient_accumulation
    tokens = round(sum(each.sentences * each.mean for each in rows.values()))
    sentences = sum(each.sentences for each in rows.values())
    full = config.decoder.full_attention
    operations = sum(
        each.sentences * _training_operations(architecture, training, each, full=full) for each in rows.values()
    )
    return {
        "count_method": counter.method,
        "languages": dict(rows),
        "tokens_per_epoch": tokens,
        "steps_per_epoch": -(-tokens // (batch * packed)) if packed else -(-sentences // batch),
        "flops_per_epoch": operations,
    }


def _training_operations(architecture: Architecture, training: TrainingConfig, row: RowTokens, *, full: bool) -> float:
    """FLOPs of one row: per token, a frozen weight costs 2 forward and 2 backward, a trained one 6 in total.

    Checkpointing adds a forward pass through the layers. In causal attention a token meets half of the others, in
    ``full`` attention all.
    """
    passes = 3 if training.gradient_checkpointing else 2
    adapter = architecture.adapter_parameters(training.lora.rank, training.lora.target_modules)
    per_token = 2 * passes * architecture.linear_parameters() + (6 if passes == 2 else 8) * adapter
    queries = architecture.num_attention_heads * architecture.head_dim
    met = row.mean if full else row.mean / 2
    attention = (passes + 1) * 4 * architecture.num_hidden_layers * queries * met  # backward costs twice forward
    head = 4 * architecture.hidden_size * architecture.vocab_size * row.answer
    return row.mean * (per_token + attention) + head


def _times(
    architecture: Architecture,
    facts: Mapping[str, Any],
    training: TrainingConfig,
    rows: LanguageTokens,
    gpu: Gpu,
    utilisation: float,
) -> dict[str, Any]:
    speed = gpu.tflops * 1e12 * utilisation
    epoch = facts["flops_per_epoch"] / speed
    total = sum(each.sentences for each in rows.values())
    mean = sum(each.sentences * each.mean for each in rows.values()) / total
    answer = sum(each.sentences * each.answer for each in rows.values()) / total
    reading = 2 * architecture.linear_parameters() * mean / speed
    # Each step of a batch reads all weights once; tokens forced by the grammar share a step.
    writing = answer * facts["weight_bytes"] / (gpu.bandwidth * 1e9 * _DECODING) / facts["inference"].rows
    return {
        "seconds_per_epoch": epoch,
        "seconds_of_training": epoch * training.epochs,
        "sentences_per_second": 1 / (reading + writing),
    }
