"""4-bit layers under the bank: real ones of bitsandbytes where it is installed, and a stand-in of their shape."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieveall.adapters import LoraLayer, LoraShape, LoraWeights
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import BackboneConfig, LabelConfig, LoraSettings, ModelConfig, TaggingConfig
from retrieveall.engines.local import options as loading
from retrieveall.engines.local.backbone import load_backbone, open_backbone
from retrieveall.engines.local.forward import attention_mask
from retrieveall.errors import ConfigError, MissingExtraError
from retrieveall.types import Sentence

real = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs the extra 'quantization'")


def config(**backbone: Any) -> ModelConfig:
    decoder = TaggingConfig(attention=backbone.pop("attention", "repeat"))
    return ModelConfig(labels=(LabelConfig(name="PER"),), backbone=BackboneConfig(**backbone), decoder=decoder)


class Packed(nn.Linear):
    """Like a layer of bitsandbytes: a Linear whose weight is bytes in one column, two numbers a byte."""

    def __init__(self, fan_in: int, fan_out: int, compute_dtype: torch.dtype | None) -> None:
        super().__init__(fan_in, fan_out, bias=False)
        self.numbers = torch.randint(-7, 8, (fan_out, fan_in), generator=torch.Generator().manual_seed(0)).float() / 9
        self.weight = nn.Parameter(torch.zeros(fan_in * fan_out // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.compute_dtype = compute_dtype

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.numbers.to(input.dtype))


def lora(dtype: torch.dtype) -> LoraWeights:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(3, 16, generator=generator), torch.randn(8, 3, generator=generator)
    return LoraWeights(LoraShape(3, 6.0), {"0": LoraLayer(a.to(dtype), b.to(dtype), 2.0)})


@pytest.mark.parametrize(
    ("compute", "held"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32), (None, torch.float32)]
)
def test_adapters_take_the_dtype_of_the_products(compute: torch.dtype | None, held: torch.dtype) -> None:
    model = nn.Sequential(Packed(16, 8, compute))
    bank = AdapterBank.attach(model)
    weights = lora(torch.float16)  # as they lie on the disk
    bank.add("de", weights)
    assert {buffer.dtype for buffer in bank.buffers()} == {held}
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(2)).to(held)
    base = model(x)
    with torch.no_grad(), bank.use([{"de": 1.0}, {}]):
        mixed = model(x)
    assert mixed.dtype == held
    layer = weights.layers["0"]
    added = 2.0 * x[0].float() @ layer.a.float().T @ layer.b.float().T
    torch.testing.assert_close(
        (mixed[0] - base[0]).float(), added, atol=0.3 if held is torch.bfloat16 else 1e-4, rtol=0
    )
    assert torch.equal(mixed[1], base[1])


def test_training_over_packed_layers_moves_the_adapter_alone() -> None:
    model = nn.Sequential(Packed(16, 8, torch.bfloat16))
    bank = AdapterBank.attach(model)
    bank.trainable(["de"], LoraSettings(rank=2, target_modules=("0",)), seed=0)
    with bank.use([{"de": 1.0}]):
        model(torch.randn(1, 4, 16, dtype=torch.bfloat16)).float().square().sum().backward()
    gradients = [parameter.grad for parameter in bank.parameters_of("de")]
    assert gradients[1] is not None
    assert gradients[1].abs().sum() > 0
    assert model[0].weight.grad is None


@pytest.fixture
def wide_backbone(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    """Wide enough for blocks of 64 numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 360, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.1, eos_token_id=1, pad_token_id=0))
    model.save_pretrained(tmp_path / "wide")
    tiny_tokenizer.save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"


@real
def test_a_backbone_in_four_bits(wide_backbone: Path) -> None:
    exact = load_backbone(config(path=str(wide_backbone)), None)
    packed = load_backbone(config(path=str(wide_backbone), quantization="4bit", dtype="bfloat16"), None)
    layer = packed.model.layers[0].mlp.up_proj
    assert (layer.weight.dtype, layer.weight.numel()) == (torch.uint8, 64 * 128 // 2)
    assert packed.lm_head.weight.dtype == torch.bfloat16
    ids = torch.randint(3, 360, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        there, here = exact(ids).logits, packed(ids).logits.float()
    assert torch.nn.functional.cosine_similarity(there.flatten(), here.flatten(), dim=0) > 0.9
    assert not any(parameter.requires_grad for parameter in packed.parameters())


@real
def test_adapters_over_real_four_bit_layers_equal_peft(wide_backbone: Path, tmp_path: Path) -> None:
    import peft

    from retrieveall.adapters import read_adapter

    settings = config(path=str(wide_backbone), quantization="4bit", dtype="bfloat16")
    ids = torch.randint(3, 360, (2, 9), generator=torch.Generator().manual_seed(0))
    options = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    reference = peft.get_peft_model(load_backbone(settings, None), options).eval()
    for name, parameter in reference.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    reference.save_pretrained(tmp_path / "adapter")
    model = load_backbone(settings, None)
    bank = AdapterBank.attach(model)
    bank.add("de", read_adapter(tmp_path / "adapter"))
    with torch.no_grad():
        base, expected = model(ids).logits.float(), reference(ids).logits.float()
        with bank.use([{"de": 1.0}] * 2):
            actual = model(ids).logits.float()
    difference = (expected - base).abs().mean()
    assert (actual - expected).abs().mean() < 0.05 * difference  # bfloat16


@real
def test_train_and_extract_in_four_bits(wide_backbone: Path, corpus: dict[str, list[Sentence]], tmp_path: Path) -> None:
    from retrieveall import RetrieveAll
    from retrieveall.config import RetrievalConfig, TrainingConfig
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.run import LanguageData, create_model, train

    labels = tuple(LabelConfig(name=name) for name in ("PER", "ORG", "LOC"))
    backbone = BackboneConfig(quantization="4bit", dtype="bfloat16", kernel="sdpa")
    settings = ModelConfig(labels=labels, backbone=backbone, retrieval=RetrievalConfig(neighbours=4))
    data = {"de": LanguageData(corpus["de"])}
    create_model(tmp_path / "model", settings, data, backbone=wide_backbone)
    kept = ModelFolder.open(tmp_path / "model").config.backbone
    assert (kept.quantization, kept.kernel, kept.path) == ("4bit", "sdpa", "backbone")
    training = TrainingConfig(epochs=1, batch_size=10, lora=LoraSettings(rank=2))
    train(tmp_path / "model", data, training, tmp_path / "run", device="cpu", show_bar=False)
    model = RetrieveAll.from_pretrained(tmp_path / "model", device="cpu")
    text = corpus["de"][0].text
    for entity in model.predict([text], language="de")[0].entities:
        assert text[entity.start : entity.end] == entity.text


def test_without_bitsandbytes_the_install_line(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"bitsandbytes.*pip install 'retrieveall\[quantization\]'"):
        load_backbone(config(quantization="4bit"), tiny_model)


def test_the_compact_model_does_not_stand_in_for_four_bits(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError):
        open_backbone(config(quantization="4bit", attention="full"), tiny_model, torch.device("cpu"))


# -- kernels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_the_kernel_that_was_asked_for_runs(kernel: Any, tiny_model: Path) -> None:
    model = load_backbone(config(kernel=kernel), tiny_model)
    assert model.config._attn_implementation == kernel


def test_kernels_agree(tiny_model: Path, make_backbone: Callable[..., Any]) -> None:
    ids = torch.randint(3, 360, (2, 9), generator=torch.Generator().manual_seed(0))
    found = []
    for kernel in ("eager", "sdpa"):
        model = load_backbone(config(kernel=kernel, attention="full"), tiny_model)
        with torch.no_grad():
            segments = (torch.arange(9) < torch.tensor([[9], [6]])).long()
            mask = attention_mask(segments, full=True)
            found.append(model(input_ids=ids, attention_mask=mask).logits[:, :6])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"attention": "full", "dtype": "bfloat16"}, "'full'"),
        ({"dtype": "float32"}, "float32"),
        ({"dtype": "bfloat16"}, "flash-attn"),
    ],
)
def test_flash_attention_where_it_cannot_run(
    options: dict[str, Any], part: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"flash_attention_2.*{part}"):
        load_backbone(config(kernel="flash_attention_2", **options), tiny_model)


def test_a_head_that_is_not_known(tiny_model: Path, tmp_path: Path) -> None:
    import json

    shutil.copytree(tiny_model / "backbone", tmp_path / "backbone")
    path = tmp_path / "backbone" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "final_logit_softcapping": 30.0}))
    with pytest.raises(ConfigError, match=r"llama.*final_logit_softcapping"):
        load_backbone(config(path=str(tmp_path / "backbone")), None)
