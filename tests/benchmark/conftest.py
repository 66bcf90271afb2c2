"""A tiny corpus on disk, and a tiny causal model and encoder for the methods of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import write_made_up

from retrieveall.data import write_conll
from retrieveall.types import Sentence

SPLITS = {"train": slice(0, 12), "validation": slice(12, 15), "test": slice(14, 20)}


@pytest.fixture(scope="session")
def corpus_folder(corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """de, en and zh with 12 training, 3 validation and 6 test sentences each."""
    root = tmp_path_factory.mktemp("corpus")
    for language, sentences in corpus.items():
        for split, part in SPLITS.items():
            path = root / language / f"{split}.tsv"
            path.parent.mkdir(exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                write_conll(sentences[part], file)
    return root


@pytest.fixture(scope="session")
def causal_folder(
    make_backbone: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    make_backbone("qwen2").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=360,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results that were made up, see ``made_up.py``."""
    return write_made_up(tmp_path_factory.mktemp("made-up"))
