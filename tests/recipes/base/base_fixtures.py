"""A small encoder of the kind that the recipe of base cuts: SentencePiece pieces by probability, and a random BERT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

__all__ = ["save_encoder"]

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def save_encoder(folder: Path, words: Iterable[str], letters: Iterable[str], *, width: int = 32) -> Path:
    """Words with and without the mark of a space, the first the most probable, then letters; the mask token is last."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = ["▁", *(mark + word for word in dict.fromkeys(words) for mark in ("▁", "")), *sorted(set(letters))]
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(piece, -2.0 - 0.01 * i) for i, piece in enumerate(dict.fromkeys(pieces))]
    vocabulary.append(("<mask>", 0.0))
    tokenizer = Tokenizer(models.Unigram(vocabulary, 3, False))
    space = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ends
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*SPECIAL, "<mask>")])
    named: dict[str, Any] = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", **named
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=width, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=300, pad_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder
