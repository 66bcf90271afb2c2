"""Two tiny random backbones, and adapters made by PEFT, the independent reference."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from retrieveall.adapters import AdapterPool
from retrieveall.adapters.bank import AdapterBank

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# Ranks, target modules and scalings differ on purpose.
LORAS = {
    "de": peft.LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    "fr": peft.LoraConfig(r=3, lora_alpha=5, target_modules=["o_proj", "down_proj", "q_proj"], use_rslora=True),
    "zh": peft.LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "k_proj", "gate_proj", "up_proj"],
        rank_pattern={"layers.1.self_attn.k_proj": 5},
        alpha_pattern={"gate_proj": 3},
    ),
}


def make_backbone(architecture: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    return Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(ids).logits
    assert isinstance(logits, Tensor)
    return logits


@dataclass
class Reference:
    """A backbone, a model folder with the adapters PEFT saved, and PEFT's model of each adapter alone."""

    backbone: nn.Module
    folder: Path
    alone: dict[str, nn.Module]

    @property
    def pool(self) -> AdapterPool:
        return AdapterPool(self.folder)

    def bank(self, **options: object) -> tuple[nn.Module, AdapterBank]:
        """A copy of the backbone and a bank in it."""
        model = copy.deepcopy(self.backbone)
        return model, AdapterBank.attach(model, self.pool, **options)

    def logits(self, ids: Tensor, rows: list[str | None]) -> Tensor:
        """PEFT's logits, every row alone with the adapter that is named."""
        models = [self.backbone if name is None else self.alone[name] for name in rows]
        return torch.cat([logits_of(model, ids[i : i + 1]) for i, model in enumerate(models)])

    def merged_logits(self, ids: Tensor, row: dict[str, float]) -> Tensor:
        """W0 + sum_p W[b,p] s_p B_p A_p, merged into the weights in float64, by PEFT's own deltas."""
        model = copy.deepcopy(self.backbone)
        for language, weight in row.items():
            for name, module in self.alone[language].base_model.model.named_modules():
                if hasattr(module, "lora_A"):
                    linear = model.get_submodule(name)
                    delta = module.get_delta_weight("default").double()
                    linear.weight.data = (linear.weight.data.double() + weight * delta).float()
        return logits_of(model, ids)


def build_reference(architecture: str, folder: Path) -> Reference:
    backbone = make_backbone(architecture)
    alone: dict[str, nn.Module] = {}
    for seed, (language, config) in enumerate(LORAS.items(), start=1):
        model = peft.get_peft_model(copy.deepcopy(backbone), copy.deepcopy(config)).eval()
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.3, generator=generator)
        model.save_pretrained(folder / "adapters" / language)
        alone[language] = model
    return Reference(backbone, folder, alone)


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return build_reference(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return build_reference("llama", tmp_path_factory.mktemp("one"))


@pytest.fixture
def ids() -> Tensor:
    """Token ids, [6, 7]."""
    return torch.randint(0, SIZES["vocab_size"], (6, 7), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    return make_backbone


@pytest.fixture
def run() -> Callable[[nn.Module, Tensor], Tensor]:
    return logits_of


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Change keys of a JSON file in place."""

    def edit(path: Path, **changes: object) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit
