"""A tiny random BERT with a tokenizer on disk, and the same with packed weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from retrieveall.config import BackboneConfig, LabelConfig, ModelConfig, PromptConfig, RetrievalConfig, TaggingConfig
from retrieveall.engines.local.packed import PACKED, write_packed

__all__ = ["config_of", "pack_folder", "save_bert"]


def save_bert(folder: Path, tokenizer: Any = None, *, pooler: bool = False, **changes: Any) -> Path:
    """Two layers of width 64, in which all parameters are random, biases and norms too."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "vocab_size": 360, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 290, "initializer_range": 0.2, "pad_token_id": 0,
    }  # fmt: skip
    model = BertModel(BertConfig(**sizes | changes), add_pooling_layer=pooler)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def pack_folder(source: Path, target: Path) -> Path:
    """A copy of a backbone with packed weights in place of its own."""
    from safetensors.torch import load_file

    shutil.copytree(source, target)
    write_packed(load_file(source / "model.safetensors"), target / PACKED)
    (target / "model.safetensors").unlink()
    return target


def config_of(backbone: Path | str, **backbone_settings: Any) -> ModelConfig:
    return ModelConfig(
        labels=tuple(LabelConfig(name=name) for name in ("PER", "ORG", "LOC")),
        backbone=BackboneConfig(path=str(backbone), **backbone_settings),
        prompt=PromptConfig(template="mini.v1", max_tokens=200, entity_examples=2, context_examples=1),
        retrieval=RetrievalConfig(neighbours=4),
        decoder=TaggingConfig(attention="full"),
    )
