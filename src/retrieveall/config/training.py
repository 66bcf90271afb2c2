"""Settings of a training run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from retrieveall.config.base import Strict

__all__ = [
    "ALL_LINEAR",
    "KnowledgeShares",
    "LoraSettings",
    "OptimisationConfig",
    "TrainingConfig",
]

ALL_LINEAR = "all-linear"
"""Of ``lora.target_modules``: every linear layer of the backbone's blocks, whatever the architecture calls them."""


class LoraSettings(Strict):
    """Shape of a new adapter, named as in PEFT, and the candidate LoRA scalings."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    use_rslora: bool = False
    target_modules: tuple[str, ...] = Field(
        default=(ALL_LINEAR,), description="names of linear layers; 'all-linear': those of all blocks, as PEFT has it"
    )
    scalings: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 0.7, 0.4, 1.4),
        min_length=1,
        description="LoRA scalings tried on validation data, as multiples of alpha; ties go to the earlier one",
    )


class OptimisationConfig(Strict):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_accumulation: int = Field(default=1, ge=1)
    weight_average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights, which is saved; 0: off",
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="no", description="'auto': bf16 if the hardware supports it"
    )
    compile: bool = Field(default=False, description="use torch.compile: minutes to start, then faster steps")
    seed: int = 13
    checkpoint_minutes: float = Field(default=5.0, gt=0)


class KnowledgeShares(Strict):
    """Relative shares of training prompts with no knowledge, the entity level only, and both levels."""

    none: float = Field(default=0.1, ge=0)
    entity: float = Field(default=0.1, ge=0)
    both: float = Field(default=0.8, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.none + self.entity + self.both <= 0:
            raise ValueError("expected at least one share above 0")
        return self


class TrainingConfig(OptimisationConfig):
    """One training run: adapters over a frozen backbone, or all weights of a backbone."""

    lora: LoraSettings = LoraSettings()
    epochs: float = Field(default=3.0, gt=0)
    steps: int | None = Field(default=None, ge=1, description="number of steps, instead of epochs")
    together: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the run in which all languages train one adapter, of which each then trains a copy; "
        "the learning rate goes on falling",
    )
    batch_size: int = Field(default=8, ge=1, description="rows per batch and process")
    row_length: int | None = Field(
        default=None, ge=8, description="tokens per packed row; null: the model's longest request"
    )
    packing: bool = Field(
        default=True, description="pack several sentences into a row; otherwise one per row, padded to the longest"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    knowledge: KnowledgeShares = KnowledgeShares()
    word_dropout: float = Field(default=0.0, ge=0, lt=1, description="share of words that are masked")
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on embeddings and on the outputs of attention and feed-forward layers",
    )
    embedding_rate: float = Field(
        default=0.5,
        ge=0,
        description="learning rate multiplier of the embeddings when all weights are trained; 0: they stay as they are",
    )
    frozen_layers: int = Field(
        default=0, ge=0, description="lowest layers that stay as they are when all weights are trained; saves time"
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations: less memory, more time")
    shard_backbone: bool = Field(
        default=False,
        description="shard the frozen backbone across processes: less memory, more time",
    )
    validation_sentences: int = Field(default=500, ge=0, description="per language, for F1 during training")
    calibration_sentences: int = Field(
        default=2000, ge=0, description="per language, for LoRA scaling, calibration and the F1 of the adapter card"
    )

    def identity(self, *, changed: bool = False) -> dict[str, Any]:
        """The settings that the trained weights depend on, as plain data; with ``changed`` without those at default."""
        return self.model_dump(mode="json", exclude={"shard_backbone", "checkpoint_minutes"}, exclude_defaults=changed)
