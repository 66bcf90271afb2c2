"""The whole estimate for one configuration, corpus and GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retrieveall.backbones import Architecture
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.decoding import TagSet
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
"""Share of the memory's bandwidth that steps of single tokens reach; loops in Python take the rest."""


@dataclass(frozen=True)
class Plan:
    """Every figure of an estimate. Bytes, tokens and seconds; ``None`` where no corpus or GPU was named."""

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
    longest_row: int
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
        """Plain data for JSON, with the totals of memory."""
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
        corpus: training sentences by language; without them rows are as long as the prompt may be.
        counter: of tokens; an estimate by script if None.
        utilisation: share of the GPU's peak that training and long prompts reach.

    Raises:
        InputError: a language without sentences, or a share that is none.
        ConfigError: no layer of the backbone is named like the target modules.
    """
    if not 0 < utilisation <= 1:
        raise InputError(f"expected a utilisation above 0 and at most 1, got {utilisation}")
    counter = counter or EstimatedCounter()
    rows = {language: _rows(language, own, config, counter) for language, own in (corpus or {}).items()}
    generates = config.decoder.kind == "generation"
    longest = max((each.longest for each in rows.values()), default=config.prompt.max_tokens)
    reads = max((max(each.answer, each.reads) for each in rows.values()), default=config.prompt.max_tokens / 4)
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
        "longest_row": longest,
        "epochs": training.epochs,
    }
    facts["training"] = training_memory(
        architecture,
        config.backbone,
        training.lora,
        adapters=adapters,
        tokens=training.batch_size * longest,
        read_tokens=round(training.batch_size * reads),
        read_vocabulary=architecture.vocab_size if generates else len(TagSet(config.label_names).tags),
        checkpointing=training.gradient_checkpointing,
        half=config.backbone.dtype != "float32" or training.mixed_precision != "no",
    )
    at_once = max(1, min(_ROWS, _BATCH_TOKENS // longest))
    facts["inference"] = inference_memory(
        architecture,
        config.backbone,
        training.lora,
        adapters=min(adapters, _LOADED),
        row_tokens=longest + (config.decoder.max_answer_tokens if generates else 0),
        rows=at_once if generates else 1,
        batch_tokens=at_once * longest,
        generates=generates,
    )
    if gpu is not None:
        facts |= {"gpu": gpu, "utilisation": utilisation}
    if rows:
        facts |= _corpus_facts(architecture, training, rows, counter)
        if gpu is not None:
            facts |= _times(architecture, facts, training, rows, gpu, utilisation)
    return Plan(**facts)


def _rows(language: str, sentences: Sequence[Sentence], config: ModelConfig, counter: TokenCounter) -> RowTokens:
    if not sentences:
        raise InputError(f"expected training sentences of {language!r}, got none; leave the language out")
    return row_tokens(sentences, config, counter)


def _corpus_facts(
    architecture: Architecture, training: TrainingConfig, rows: LanguageTokens, counter: TokenCounter
) -> dict[str, Any]:
    batch = training.batch_size * training.gradient_accumulation
    sentences = sum(each.sentences for each in rows.values())
    operations = sum(each.sentences * _training_operations(architecture, training, each) for each in rows.values())
    return {
        "count_method": counter.method,
        "languages": dict(rows),
        "tokens_per_epoch": round(sum(each.sentences * each.mean for each in rows.values())),
        "steps_per_epoch": -(-sentences // batch),
        "flops_per_epoch": operations,
    }


def _training_operations(architecture: Architecture, training: TrainingConfig, row: RowTokens) -> float:
    """Floating point operations of one row: a frozen weight costs 2 a token forward and 2 back, a trained one 6.

    Checkpointing runs the layers forward once more. Attention: products of every token with half the others.
    """
    passes = 3 if training.gradient_checkpointing else 2
    adapter = architecture.adapter_parameters(training.lora.rank, training.lora.target_modules)
    per_token = 2 * passes * architecture.linear_parameters() + (6 if passes == 2 else 8) * adapter
    queries = architecture.num_attention_heads * architecture.head_dim
    attention = (passes + 1) * 2 * architecture.num_hidden_layers * queries * row.mean  # back costs twice forward
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
    # Every step of a batch reads all weights once; the tokens of a row that a grammar forces come in one step.
    writing = answer * facts["weight_bytes"] / (gpu.bandwidth * 1e9 * _DECODING) / facts["inference"].rows
    return {
        "seconds_per_epoch": epoch,
        "seconds_of_training": epoch * training.epochs,
        "sentences_per_second": 1 / (reading + writing),
    }
