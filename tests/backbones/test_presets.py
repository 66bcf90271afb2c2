"""The shipped settings of backbones: they load, hold for both decoders, and count what transformers counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrieveall.backbones import Architecture, Preset, find_preset, preset_names
from retrieveall.config import LabelConfig, load_yaml
from retrieveall.errors import ConfigError
from retrieveall.prompts import load_template

LABELS = (LabelConfig(name="PER"), LabelConfig(name="LOC", definition="a place"))
# Of the models' own descriptions.
PUBLISHED = {
    "llama-3-8b": 8_030_261_248,
    "llama-3-8b-instruct": 8_030_261_248,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
}
# Without pooler and language modelling head; of the embeddings, words + positions + token types + their norm.
ENCODERS = {
    "xlm-roberta-base": (250_002 + 514 + 1 + 2) * 768 + 12 * 7_087_872,
    "xlm-roberta-large": (250_002 + 514 + 1 + 2) * 1024 + 24 * 12_596_224,
    "multilingual-e5-small": (250_037 + 512 + 2 + 2) * 384 + 12 * 1_774_464,
}


def shipped(name: str) -> Preset:
    found = find_preset(name)
    assert found is not None
    return found


def test_the_backbones_are_there() -> None:
    assert preset_names() == tuple(sorted((*PUBLISHED, *ENCODERS)))


@pytest.mark.parametrize("kind", ["tagging", "generation"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_hold_for_both_decoders(name: str, kind: Any) -> None:
    preset = shipped(name)
    config = preset.model_config_for(kind, LABELS)
    training = preset.training_config(kind)
    assert (config.decoder.kind, config.label_names) == (kind, ("PER", "LOC"))
    assert config.backbone.dtype == "bfloat16"
    assert config.backbone.path.count("/") == 1  # a hub id
    assert config.backbone.revision is None
    assert config.prompt.chat == name.endswith("-instruct")
    assert config.prompt.max_tokens <= preset.architecture.max_position_embeddings
    assert training.gradient_checkpointing
    assert training.mixed_precision == "bf16"
    assert training.batch_size * training.gradient_accumulation == 8
    assert set(training.lora.target_modules) == set(preset.architecture.linears())
    template = load_template(config.prompt.template)
    assert (kind == "generation") == template.version.startswith("answer")


@pytest.mark.parametrize("name", ENCODERS)
def test_settings_of_encoders_hold_for_tagging(name: str) -> None:
    preset = shipped(name)
    config, training = preset.model_config_for("tagging", LABELS), preset.training_config("tagging")
    assert (config.decoder.full_attention, config.decoder.copies) == (True, 1)
    assert config.backbone.path.partition("/")[2] == name
    assert config.prompt.max_tokens == training.row_length == 256
    assert (training.lora.rank, training.lora.alpha, training.lora.target_modules) == (16, 32, ("all-linear",))
    with pytest.raises(ConfigError, match=r"does not write.*got generation.*--decoder tagging"):
        preset.model_settings("generation")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_what_transformers_builds(name: str) -> None:
    architecture = shipped(name).architecture
    model = _encoder_on_meta(_facts(architecture))
    assert architecture.parameters() == ENCODERS[name] == sum(each.numel() for each in model.parameters())
    assert Architecture.from_config(model.config.to_dict(), name) == architecture
    for path, shape in architecture.linears().items():
        module = model.get_submodule(f"encoder.layer.0.{path}")
        assert (module.in_features, module.out_features) == shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_were_published(name: str) -> None:
    assert shipped(name).architecture.parameters() == PUBLISHED[name]


@pytest.mark.parametrize("name", ["llama-3-8b", "qwen2.5-7b", "qwen2.5-14b"])
def test_the_shape_is_what_transformers_builds(name: str) -> None:
    """The real shape on the meta device: no memory, exact counts, layer by layer."""
    model, architecture = _on_meta(shipped(name).architecture), shipped(name).architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.parameters()
    for name, (fan_in, fan_out) in architecture.linears().items():
        module = next(m for path, m in model.named_modules() if path.endswith(f".{name}"))
        assert (module.in_features, module.out_features) == (fan_in, fan_out)


SMALL: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied, with biases": {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 24},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "qwen3 with biases": {"attention_bias": True, "head_dim": 16},
}


@pytest.mark.parametrize("case", SMALL)
def test_a_local_config_is_counted_exactly(case: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 77, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128}
    config = AutoConfig.for_model(case.split()[0], **{**sizes, **heads, **SMALL[case]})
    config.save_pretrained(tmp_path)
    architecture = Architecture.from_folder(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert architecture.parameters() == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize("kind", ["bert", "roberta", "camembert", "xlm-roberta"])
def test_a_local_encoder_is_counted_exactly(kind: str, types: int, tmp_path: Path) -> None:
    sizes = {"vocab_size": 77, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}
    more = {"num_attention_heads": 6, "max_position_embeddings": 130, "type_vocab_size": types}
    model = _encoder_on_meta({"model_type": kind, **sizes, **more})
    model.config.save_pretrained(tmp_path)
    architecture = Architecture.from_folder(tmp_path)
    assert architecture.parameters() == sum(parameter.numel() for parameter in model.parameters())
    linear = [m.weight.numel() for m in model.modules() if type(m).__name__ == "Linear"]
    assert architecture.linear_parameters() == sum(linear)


@pytest.mark.parametrize(
    "targets", [("query", "value"), ("dense",), ("output.dense",), ("attention.output.dense", "key"), ("all-linear",)]
)
def test_an_encoders_adapter_is_counted_as_the_bank_and_peft_make_it(targets: tuple[str, ...]) -> None:
    """``dense`` is three layers, ``output.dense`` two of them."""
    import torch
    from transformers import AutoConfig, AutoModel

    from retrieveall.adapters.bank import AdapterBank
    from retrieveall.config import LoraSettings

    peft = pytest.importorskip("peft")
    sizes = {"vocab_size": 30, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config = AutoConfig.for_model("bert", **sizes, num_attention_heads=4)
    model: Any = AutoModel.from_config(config, add_pooling_layer=False)
    counted = Architecture.from_config(config.to_dict(), "bert").adapter_parameters(5, targets)
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], LoraSettings(rank=5, target_modules=targets), seed=0)
    assert counted == sum(parameter.numel() for parameter in bank.parameters_of("de"))
    bank.detach()
    named = "all-linear" if targets == ("all-linear",) else list(targets)
    reference: torch.nn.Module = peft.get_peft_model(model, peft.LoraConfig(r=5, target_modules=named))
    assert counted == sum(p.numel() for name, p in reference.named_parameters() if ".lora_" in name)


def test_an_encoders_layer_names_are_listed() -> None:
    with pytest.raises(ConfigError, match=r"attention\.self\.query.*intermediate\.dense.*q_proj"):
        shipped("xlm-roberta-base").architecture.adapter_parameters(5, ["q_proj"])


def test_an_adapter_is_counted_as_the_bank_makes_it(make_backbone: Any, tmp_path: Path) -> None:
    from retrieveall.adapters.bank import AdapterBank
    from retrieveall.config import LoraSettings

    model = make_backbone("qwen2")
    model.config.save_pretrained(tmp_path)
    for targets in (("q_proj", "v_proj"), LoraSettings().target_modules):
        bank = AdapterBank.attach(model)
        bank.trainable(["de"], LoraSettings(rank=5, target_modules=targets), seed=0)
        expected = sum(parameter.numel() for parameter in bank.parameters_of("de"))
        assert Architecture.from_folder(tmp_path).adapter_parameters(5, targets) == expected
        bank.detach()
    with pytest.raises(ConfigError, match="c_attn"):
        Architecture.from_folder(tmp_path).adapter_parameters(5, ["c_attn"])


def test_another_architecture_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"config\.json.*llama.*'gpt2'.*measure"):
        Architecture.from_config({"model_type": "gpt2"}, "config.json")
    with pytest.raises(ConfigError, match=r"'xlm-roberta-xl'.*measure"):  # its norms come before its layers
        Architecture.from_config({"model_type": "xlm-roberta-xl"}, "config.json")
    with pytest.raises(ConfigError, match=r"config\.json.*hidden_size"):
        Architecture.from_config({"model_type": "llama"}, "config.json")
    with pytest.raises(ConfigError, match="vocab_size"):
        Architecture.from_config({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}, "config.json")


def test_a_users_own_file_of_the_same_form(tmp_path: Path) -> None:
    from importlib import resources

    own = tmp_path / "own.yaml"
    text = (resources.files("retrieveall.backbones") / "qwen2.5-7b.yaml").read_text(encoding="utf-8")
    own.write_text(text.replace("rank: 16", "rank: 4"), encoding="utf-8")
    found = find_preset(own)
    assert found is not None
    assert found.training_config("tagging").lora.rank == 4
    own.write_text(text.replace("rank: 16", "rang: 4"), encoding="utf-8")
    with pytest.raises(ConfigError, match="rang"):
        find_preset(own).training_config("tagging")  # type: ignore[union-attr]
    own.write_text(text.replace("  model_type", "  modell_type"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.yaml.*modell_type|own\.yaml.*model_type"):
        find_preset(own)
    own.write_text("epochs: 4\n", encoding="utf-8")
    assert find_preset(own) is None  # training settings alone
    assert find_preset("nowhere") is None


def test_a_decoder_without_settings(tmp_path: Path) -> None:
    preset = shipped("qwen2.5-7b")
    only = preset.model_copy(update={"decoders": {"tagging": preset.decoders["tagging"]}})
    with pytest.raises(ConfigError, match=r"decoders\.generation"):
        only.model_settings("generation")


def test_loading_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("summary: x\narchitecture: {}\ndecoders: {}\nmodel: {}\nmore: 1\n")
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_yaml(Preset, path)


def _on_meta(architecture: Architecture) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    facts = _facts(architecture)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(facts.pop("model_type"), **facts))


def _encoder_on_meta(facts: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModel

    facts = dict(facts)
    with torch.device("meta"):
        config = AutoConfig.for_model(facts.pop("model_type"), **facts)
        return AutoModel.from_config(config, add_pooling_layer=False)


def _facts(architecture: Architecture) -> dict[str, Any]:
    """What a ``config.json`` holds; the others are derived."""
    derived = {"qkv_bias", "head_dim", "output_bias", "head_norms"}
    return architecture.model_dump(exclude=derived | (set() if architecture.type_vocab_size else {"type_vocab_size"}))
