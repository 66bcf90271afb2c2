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


def shipped(name: str) -> Preset:
    found = find_preset(name)
    assert found is not None
    return found


def test_the_four_backbones_are_there() -> None:
    assert preset_names() == tuple(sorted(PUBLISHED))


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

    facts = architecture.model_dump(include=set(Architecture.model_fields) - {"model_type", "qkv_bias", "head_dim"})
    facts = {key: value for key, value in facts.items() if key not in {"output_bias", "head_norms"}}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture.model_type, **facts))
