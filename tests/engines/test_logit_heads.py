"""Tags read from rows of the output embedding are the logits of the architecture's own ``forward``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from retrieveall.engines.local.forward import attention_mask, score_tokens
from retrieveall.engines.local.heads import check_head
from retrieveall.errors import ConfigError

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "gemma2": {"final_logit_softcapping": 5.0},
    "gemma3_text": {"final_logit_softcapping": 3.0},
    "vaultgemma": {"final_logit_softcapping": 4.0},
    "granite": {"logits_scaling": 7.0},
    "granitemoe": {"logits_scaling": 3.0, "num_local_experts": 2, "num_experts_per_tok": 1},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.5},
    "falcon_h1": {"lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


def tiny(kind: str) -> Any:
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **{**SIZES, **KINDS[kind]})
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("kind", KINDS)
def test_read_logits_are_those_of_the_model(kind: str) -> None:
    model = tiny(kind)
    check_head(model.config)
    ids = torch.randint(3, 64, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = attention_mask(torch.ones(2, 6, dtype=torch.long), full=False)
    reads, tags = torch.tensor([2, 5, 7, 11]), torch.tensor([9, 4, 33])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[reads][:, tags]
        actual = score_tokens(model, ids, mask, reads, tags)
    torch.testing.assert_close(actual, expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind, options in KINDS.items() if kind not in ("llama", "qwen2", "gpt2")])
def test_the_cases_above_would_differ_without_it(kind: str) -> None:
    model = tiny(kind)
    ids = torch.randint(3, 64, (1, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        raw = states @ model.get_output_embeddings().weight.T
        assert (raw - model(input_ids=ids).logits).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "key"),
    [("hyperclovax", "logits_scaling"), ("unheard_of", "final_logit_softcapping"), ("x", "logit_scale")],
)
def test_an_unknown_head_is_refused(kind: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind}.*{key}.*generation"):
        check_head(SimpleNamespace(model_type=kind, **{key: 0.3}))
    check_head(SimpleNamespace(model_type=kind, **{key: 1.0}))
    check_head(SimpleNamespace(model_type=kind, **{key: None}))
