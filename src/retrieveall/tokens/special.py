"""The special tokens (BOS, EOS, padding, mask) from the files beside ``tokenizer.json``.

Looked up as in transformers: ``tokenizer_config.json``, in old folders ``special_tokens_map.json``, then the defaults
of the tokenizer class. A token set to null does not exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieveall.storage import read_json

__all__ = ["FILES", "KINDS", "special_tokens"]

KINDS = ("bos", "eos", "pad", "mask", "cls", "sep")
FILES = ("tokenizer_config.json", "special_tokens_map.json", "config.json")

_SENTENCE = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
_DOCUMENT = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
_OF_CLASS = {
    "BertTokenizer": {"pad": "[PAD]", "mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"},
    "GPT2Tokenizer": _DOCUMENT,
    "GPTNeoXTokenizer": _DOCUMENT | {"pad": "<|padding|>"},
    "RobertaTokenizer": _SENTENCE,
    "XLMRobertaTokenizer": _SENTENCE,
}
"""Defaults of classes whose hub models do not list their tokens, such as gpt2 and xlm-roberta-base."""
_CLASS_OF = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neo": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "gptj": "GPT2Tokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
"""Tokenizer class by ``model_type``, for a folder that does not name it."""


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of the special tokens by kind, one of ``KINDS``; kinds without a token are omitted.

    Raises:
        ModelFolderError: a malformed file.
    """
    settings, named, model = (_optional(folder / name) for name in FILES)
    if "added_tokens_decoder" not in settings:
        settings = settings | named
    kind = settings.get("tokenizer_class") or _CLASS_OF.get(str(model.get("model_type")))
    defaults = _OF_CLASS.get(str(kind).removesuffix("Fast"), {})
    found = {each: _text(settings.get(f"{each}_token", defaults.get(each))) for each in KINDS}
    return {each: text for each, text in found.items() if text is not None}


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text(token: Any) -> str | None:
    """The text of a token, which is stored as a string or an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
