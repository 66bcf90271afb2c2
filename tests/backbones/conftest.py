"""Tiny backbones with tokenizers of the kinds that Llama-3, Qwen2.5, BERT, RoBERTa and XLM-R come with, on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retrieveall.types import Sentence

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_MARKERS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>",
]  # fmt: skip
_QWEN_MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_LLAMA_CHAT = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<|start_header_id|>{{ message.role }}"
    "<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_QWEN_CHAT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PROSE = [
    "Known names in the text: Similar sentences and their names: Similar texts and their names: Names:",
    "Task: for every word of the text, say whether it belongs to a name of one of these kinds.",
    "Task: list the names of the text that are of one of these kinds, in the order of the text. Write a line for each",
    "The text again, word by word: times as - PER: PER - ORG: ORG - LOC: LOC",
] * 3


@pytest.fixture
def run() -> Callable[..., Result]:
    """``run("extract", "text")``: exit code, output and errors of the command line."""
    from retrieveall.cli.app import app

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def _tokenizer(kind: str, texts: list[str]) -> Any:
    """Byte-level BPE behind the kind's own way of splitting; Llama-3's begins every text, Qwen's normalises."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    llama = kind == "llama"
    tokenizer = Tokenizer(models.BPE())
    pattern = _SPLIT if llama else _SPLIT.replace("{1,3}", "")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if not llama:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # A space and a letter is one token in any vocabulary of the real size.
    letters = [f" {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] * 20
    tokenizer.train_from_iterator([*texts, *_PROSE, *letters], trainer)
    tokenizer.add_special_tokens(_LLAMA_MARKERS if llama else _QWEN_MARKERS)
    if llama:
        begin = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[begin])
        special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}  # and no token for padding
    else:
        special = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}  # and none to begin with
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = _LLAMA_CHAT if llama else _QWEN_CHAT
    return wrapped


@pytest.fixture(scope="session")
def backbone_of_kind(
    corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``backbone_of_kind("llama")`` or ``("qwen2")``: a folder with a tiny random model and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(1)
    built: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind in built:
            return built[kind]
        tokenizer = _tokenizer(kind, [each.text for sentences in corpus.values() for each in sentences])
        sizes: dict[str, Any] = {
            "vocab_size": len(tokenizer) + 5,  # real ones are padded, too
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "initializer_range": 0.3,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**sizes)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**sizes))
        folder = tmp_path_factory.mktemp(kind) / "backbone"
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        built[kind] = folder
        return folder

    return build


@pytest.fixture(scope="session")
def encoder_of_kind(
    corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``encoder_of_kind("bert")``: a folder with a tiny random encoder and a tokenizer of its kind."""
    built: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind not in built:
            built[kind] = _encoder(
                kind, [s.text for own in corpus.values() for s in own], tmp_path_factory.mktemp(kind)
            )
        return built[kind]

    return build


def _encoder(kind: str, texts: list[str], folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    named = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if kind == "bert" else (
        "<pad>", "<unk>", "<s>", "</s>", "<mask>"
    )  # fmt: skip
    pad, unk, cls, sep, mask = named
    order = list(named) if kind == "bert" else [cls, pad, sep, unk, mask]  # RoBERTa pads with token 1
    if kind == "roberta":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=order,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=unk) if kind == "bert" else models.Unigram())
        space = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer() if kind == "bert" else space
        options: dict[str, Any] = {"vocab_size": 400, "special_tokens": order, "show_progress": False}
        trainer = trainers.WordPieceTrainer(**options) if kind == "bert" else trainers.UnigramTrainer(
            **options, unk_token=unk
        )  # fmt: skip
    letters = ["ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i] for i in range(26)] * 20
    tokenizer.train_from_iterator([*texts, *letters], trainer)
    special = {"pad_token": pad, "unk_token": unk, "cls_token": cls, "sep_token": sep, "mask_token": mask}
    if kind != "bert":
        special |= {"bos_token": cls, "eos_token": sep}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=290, pad_token_id=tokenizer.token_to_id(pad),
        initializer_range=0.3, type_vocab_size=2,
    )  # fmt: skip
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
