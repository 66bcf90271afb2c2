"""The engine's own small Llama against transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from retrieveall.adapters import backbone_fingerprint
from retrieveall.engines.local.compact import load_compact


@pytest.fixture(params=[(4, True), (2, False)], ids=["tied", "grouped heads, untied"])
def llama(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    heads, tied = request.param
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=360, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=heads, tie_word_embeddings=tied, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_states_and_head_as_transformers(llama: Path, dtype: torch.dtype) -> None:
    loaded = load_compact(llama, dtype)
    assert loaded is not None
    reference = LlamaForCausalLM.from_pretrained(llama, dtype=dtype, attn_implementation="eager").eval()
    ids = torch.randint(0, reference.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(3, 1, 40, 40, dtype=dtype)
    mask[0, :, :, 25:] = torch.finfo(dtype).min
    with torch.inference_mode():
        found = loaded.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = reference.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-5 if dtype is torch.float32 else 0.06)
    assert torch.equal(loaded.get_output_embeddings().weight, reference.get_output_embeddings().weight)
    assert loaded.dtype == dtype


def test_same_module_names_and_fingerprint(llama: Path) -> None:
    loaded = load_compact(llama, torch.float32)
    assert loaded is not None
    reference = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
    linears = {name for name, module in reference.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name, module in loaded.named_modules() if isinstance(module, torch.nn.Linear)} == linears
    assert backbone_fingerprint(loaded) == backbone_fingerprint(reference)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["Qwen2ForCausalLM"]},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"head_dim": 16},
        {"num_hidden_layers": 4},
    ],
)
def test_what_is_not_plain_is_left_to_transformers(llama: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    other = Path(shutil.copytree(llama, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text()) | change
    (other / "config.json").write_text(json.dumps(config))
    assert load_compact(other, torch.float32) is None


def test_opening_the_shipped_model_does_not_load_transformers() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom retrieveall import RetrieveAll\n"
        "RetrieveAll.from_pretrained('mini', device='cpu').predict('Anna')\nprint('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_states_at_some_places_are_those_of_all_places(llama: Path) -> None:
    loaded = load_compact(llama, torch.float32)
    assert loaded is not None
    model = loaded
    ids = torch.randint(0, model.lm_head.out_features, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(3, 1, 40, 40)
    mask[0, :, :, 25:] = torch.finfo(torch.float32).min
    reads = torch.tensor([0, 3, 24, 2 * 40, 2 * 40 + 39])  # none in the second row
    with torch.inference_mode():
        everywhere = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.flatten(0, 1)
        assert torch.allclose(model.states_at(ids, mask, reads), everywhere[reads], atol=1e-5)
