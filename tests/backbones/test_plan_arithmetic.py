"""A plan's figures against what torch really keeps, holds and counts, for small models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.adapters.bank import AdapterBank
from retrieveall.backbones import Architecture, find_preset
from retrieveall.config import (
    BackboneConfig,
    GenerationConfig,
    LabelConfig,
    LoraSettings,
    ModelConfig,
    PromptConfig,
    TaggingConfig,
    TrainingConfig,
)
from retrieveall.errors import InputError
from retrieveall.planning import CodecCounter, EstimatedCounter, find_gpu, make_plan, row_tokens
from retrieveall.planning.memory import activation_bytes, cache_bytes, weight_bytes
from retrieveall.types import Entity, Sentence
from tiny import codec_of

LABELS = tuple(LabelConfig(name=name) for name in ("PER", "ORG", "LOC"))


def wide(architecture: str) -> Any:
    """Wide enough that what a layer keeps is more than what attention's masks and scalars take."""
    from transformers import AutoConfig, AutoModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "attn_implementation": "sdpa",
    }
    torch.manual_seed(0)
    if architecture in ("bert", "xlm-roberta"):
        del sizes["num_key_value_heads"]
        encoder = AutoModel.from_config(AutoConfig.for_model(architecture, **sizes), add_pooling_layer=False)
        return encoder.requires_grad_(False).eval()  # as while adapters are trained
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return Qwen2ForCausalLM(Qwen2Config(**sizes))


def kept_bytes(model: Any, bank: AdapterBank, checkpointing: bool) -> int:
    """Bytes of all different tensors that one forward pass keeps for the backward pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for module in (model, bank) for parameter in module.parameters()}
    seen: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage  # held, so that no address comes twice
        return tensor

    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    bank.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bank.use([{"de": 1.0}] * 2):
        states = model.base_model(input_ids=torch.ones(2, 48, dtype=torch.long), use_cache=False).last_hidden_state
    assert states.requires_grad
    return sum(storage.nbytes() for storage in seen.values())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_activations_are_what_torch_keeps(architecture: str, dropout: float, tmp_path: Path) -> None:
    model = wide(architecture)
    model.config.save_pretrained(tmp_path)
    shape = Architecture.from_folder(tmp_path)
    lora = LoraSettings(rank=4, dropout=dropout)
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], lora, seed=0)
    kept = kept_bytes(model, bank, checkpointing=False)
    planned = activation_bytes(shape, lora, tokens=96, width=4, checkpointing=False)
    assert planned == pytest.approx(kept, rel=0.2)


@pytest.mark.parametrize(
    ("architecture", "targets", "dropout"),
    [
        ("bert", ("all-linear",), 0.0),
        ("bert", ("all-linear",), 0.1),
        ("xlm-roberta", ("all-linear",), 0.0),
        ("bert", ("query", "value"), 0.0),
        ("bert", ("dense",), 0.0),
    ],
)
def test_activations_of_an_encoder_are_what_torch_keeps(
    architecture: str, targets: tuple[str, ...], dropout: float
) -> None:
    model = wide(architecture)
    shape = Architecture.from_config(model.config.to_dict(), architecture)
    lora = LoraSettings(rank=4, dropout=dropout, target_modules=targets)
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], lora, seed=0)
    planned = activation_bytes(shape, lora, tokens=96, width=4, checkpointing=False)
    kept = kept_bytes(model, bank, checkpointing=False)
    if dropout:  # a mask of four bytes on a CPU, of one on a GPU, which is planned for
        kept -= 3 * 96 * shape.num_hidden_layers * (3 * shape.hidden_size + shape.intermediate_size)
    assert planned == pytest.approx(kept, rel=0.15)


def test_checkpointing_keeps_the_inputs_of_the_layers(tmp_path: Path) -> None:
    model = wide("llama")
    model.config.save_pretrained(tmp_path)
    shape, lora = Architecture.from_folder(tmp_path), LoraSettings(rank=4, dropout=0.0)
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], lora, seed=0)
    # What a forward pass leaves behind; the layer that is run again comes on top, one at a time.
    left = kept_bytes(model, bank, checkpointing=True)
    planned = activation_bytes(shape, lora, tokens=96, width=4, checkpointing=True)
    one_layer = activation_bytes(shape, lora, tokens=96, width=4, checkpointing=False) // shape.num_hidden_layers
    assert planned - one_layer == pytest.approx(left, rel=0.5)
    assert planned < activation_bytes(shape, lora, tokens=96, width=4, checkpointing=False) / 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_take_what_the_model_holds(dtype: str, make_backbone: Callable[..., Any], tmp_path: Path) -> None:
    model = make_backbone("qwen2").to(getattr(torch, dtype))
    model.config.save_pretrained(tmp_path)
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert weight_bytes(Architecture.from_folder(tmp_path), BackboneConfig(dtype=dtype)) == held


def test_the_cache_is_what_transformers_fills(make_backbone: Callable[..., Any], tmp_path: Path) -> None:
    model = make_backbone("qwen2")
    model.config.save_pretrained(tmp_path)
    with torch.no_grad():
        cache = model(torch.ones(3, 11, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 3 * cache_bytes(Architecture.from_folder(tmp_path), "float32", 11) == held


# -- rows ---------------------------------------------------------------------------------------------------------


def config(kind: str = "tagging", **prompt: Any) -> ModelConfig:
    template = "plain.v1" if kind == "tagging" else "answer.v1"
    return ModelConfig(
        labels=LABELS,
        prompt=PromptConfig(template=template, max_tokens=400, **prompt),
        decoder=TaggingConfig() if kind == "tagging" else GenerationConfig(),
    )


def test_rows_are_as_long_as_those_of_training(
    tiny_repeat_model: Path, corpus: dict[str, list[Sentence]], tiny_tokenizer: Any
) -> None:
    """With the tokenizer at hand, against the examples that training builds over the real knowledge."""
    from retrieveall.decoders import make_decoder
    from retrieveall.model_folder import ModelFolder
    from retrieveall.stages import Stages

    model = ModelFolder.open(tiny_repeat_model)
    codec = codec_of(tiny_tokenizer, "as_is")
    stages, decoder = Stages(model.config, model.knowledge(), codec), make_decoder(model.config, codec)
    counter = CodecCounter(tiny_repeat_model / "backbone", model.config)
    assert "counted by" in counter.method
    for language in ("de", "zh"):
        windows = stages.window([sentence.text for sentence in corpus[language]])
        prompts = stages.prompt(windows, stages.retrieve(windows, exclude=corpus[language], votes=False))
        targets = [decoder.target(*each, []) for each in zip(windows, prompts, strict=True)]
        lengths = [len(target.ids) for target in targets]
        found = row_tokens(corpus[language], model.config, counter)
        assert found.sentences == 20
        assert found.mean == pytest.approx(sum(lengths) / len(lengths), rel=0.2)
        assert found.longest == pytest.approx(max(lengths), rel=0.2)


def test_what_a_row_is_made_of() -> None:
    sentences = [Sentence("Ada lives here", (Entity(0, 3, "PER", "Ada"),), "en")] * 3
    counter = EstimatedCounter()
    bare = {"entity_examples": 0, "context_examples": 0}
    tags = row_tokens(sentences, config(**bare), counter)
    answer = row_tokens(sentences, config("generation", **bare), counter)
    assert (tags.text, tags.tags, tags.answer) == (3, 3, 0)
    assert (answer.text, answer.tags, answer.answer) == (3, 0, 4)  # PER, Ada, line break, end
    more = row_tokens(sentences, config(), counter)
    assert more.mean > tags.mean
    assert row_tokens(sentences, config(chat=True, **bare), counter).mean > tags.mean


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox", 4, 7),
        ("Съешь ещё этих мягких булок", 5, 12),
        ("北京大学", 4, 4),
        ("대한민국의 서울", 4, 8),
    ],
)
def test_the_estimate_by_script(text: str, least: int, most: int) -> None:
    from retrieveall.data import segment

    assert least <= EstimatedCounter().cost(segment(text)) <= most


# -- the whole ----------------------------------------------------------------------------------------------------


def sentences(count: int) -> list[Sentence]:
    return [Sentence(f"Ada lives in London {i}", (Entity(0, 3, "PER", "Ada"),), "en") for i in range(count)]


def plan(kind: Any = "tagging", gpu: str = "h100", count: int = 2000, **training: Any) -> Any:
    preset = find_preset("qwen2.5-7b")
    assert preset is not None
    settings = preset.training_config(kind).model_copy(update=training)
    corpus = {"en": sentences(count), "de": sentences(count)}
    chosen = preset.model_config_for(kind, LABELS)
    return make_plan(chosen, preset.architecture, settings, corpus, gpu=find_gpu(gpu))


def test_proportions() -> None:
    one = plan()
    assert plan(count=4000).tokens_per_epoch == pytest.approx(2 * one.tokens_per_epoch, rel=0.02)
    assert plan(gpu="a100").seconds_per_epoch == pytest.approx(one.seconds_per_epoch * 989 / 312)
    assert plan(epochs=6.0).seconds_of_training == pytest.approx(2 * one.seconds_of_training)
    faster = plan(gradient_checkpointing=False)
    assert faster.seconds_per_epoch == pytest.approx(one.seconds_per_epoch * 2 / 3, rel=0.02)
    assert faster.training.total > one.training.total
    assert plan(batch_size=16).training.activations == 2 * one.training.activations
    sparse = plan(packing=False)  # rows as long as the longest sentence
    assert sparse.row_length < one.row_length
    assert sparse.steps_per_epoch == 4000 // 8 > 5 * one.steps_per_epoch
    # 2 N for forward, N being the weights that a token passes, three times that with checkpointing.
    assert one.flops_per_epoch == pytest.approx(6 * 6.53e9 * one.tokens_per_epoch, rel=0.05)


def test_writing_costs_more_than_tags() -> None:
    tags, answers = plan("tagging"), plan("generation")
    assert answers.sentences_per_second < tags.sentences_per_second
    assert answers.training.logits > 1000 * tags.training.logits
    assert answers.inference.cache_per_row > 0 == tags.inference.cache_per_row


def test_an_encoder_sees_every_token_once() -> None:
    """One copy of the text, all of it seen by every token; nothing is written."""
    preset = find_preset("xlm-roberta-base")
    assert preset is not None
    chosen, training = preset.model_config_for("tagging", LABELS), preset.training_config("tagging")
    corpus, architecture = {"en": sentences(400)}, preset.architecture
    found = make_plan(chosen, architecture, training, corpus, gpu=find_gpu("a100"))
    counted = row_tokens(corpus["en"], chosen, EstimatedCounter())
    twice = chosen.model_copy(update={"decoder": TaggingConfig(attention="repeat")})
    repeated = row_tokens(corpus["en"], twice, EstimatedCounter())
    assert repeated.mean - counted.mean > counted.text
    assert (found.inference.cache_per_row, found.row_length) == (0, 256)
    assert found.tokens_per_epoch == round(400 * counted.mean)
    # 4 N without checkpointing, 6 for adapters; in attention 2 products of the width a token of the row, 3 times.
    adapters = found.adapter_parameters
    per_token = 4 * architecture.linear_parameters() + 6 * adapters + 12 * 12 * 768 * counted.mean
    assert found.flops_per_epoch == pytest.approx(400 * counted.mean * per_token)


def test_four_bits_are_a_quarter_of_the_layers() -> None:
    preset = find_preset("qwen2.5-14b")
    assert preset is not None
    full = weight_bytes(preset.architecture, BackboneConfig(dtype="bfloat16"))
    packed = weight_bytes(preset.architecture, BackboneConfig(dtype="bfloat16", quantization="4bit"))
    linear = preset.architecture.linear_parameters()
    assert full - packed == pytest.approx(linear * (2 - 0.516), rel=1e-3)


def test_without_corpus_or_gpu() -> None:
    preset = find_preset("llama-3-8b")
    assert preset is not None
    bare = make_plan(preset.model_config_for("tagging", LABELS), preset.architecture, TrainingConfig())
    assert bare.tokens_per_epoch is None
    assert bare.seconds_per_epoch is None
    assert bare.row_length == 1024
    assert set(bare.as_dict()) == {field.name for field in dataclasses.fields(bare)}


def test_bad_questions() -> None:
    with pytest.raises(InputError, match=r"h100.*'tpu'"):
        find_gpu("tpu")
    preset = find_preset("llama-3-8b")
    assert preset is not None
    chosen = preset.model_config_for("tagging", LABELS)
    with pytest.raises(InputError, match="'en'"):
        make_plan(chosen, preset.architecture, TrainingConfig(), {"en": []})
    with pytest.raises(InputError, match="utilisation"):
        make_plan(chosen, preset.architecture, TrainingConfig(), utilisation=1.5)
