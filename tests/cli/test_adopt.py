"""``adopt``: an adapter that plain peft trained joins the pool, and computes what peft computes with it."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_fakes import one_error
from typer.testing import Result

from retrieveall.adapters import AdapterPool, backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.data import write_jsonl
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction
from retrieveall.types import Entity, Sentence

Run = Callable[..., Result]
IDS = torch.randint(3, 360, (2, 7), generator=torch.Generator().manual_seed(1))
SETTINGS: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def backbone_of(model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model / "backbone").eval()


def peft_model(backbone: Any, **settings: Any) -> Any:
    import peft

    model = peft.get_peft_model(copy.deepcopy(backbone), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(input_ids=IDS).logits
    assert isinstance(found, torch.Tensor)
    return found


@pytest.fixture
def trained(model_copy: Path, tmp_path: Path) -> Path:
    """The folder that plain peft saves."""
    peft_model(backbone_of(model_copy), **SETTINGS).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json" and ".staging" not in path.parts
    }


def test_an_adopted_adapter_gives_pefts_logits(run: Run, model_copy: Path, tmp_path: Path) -> None:
    backbone = backbone_of(model_copy)
    options = {**SETTINGS, "use_rslora": True, "rank_pattern": {"layers.1.mlp.down_proj": 6}}
    reference = peft_model(backbone, **options)
    reference.save_pretrained(tmp_path / "adapter")
    before = contents(model_copy)
    result = run("adopt", "nl", tmp_path / "adapter", "--model", model_copy)
    assert result.exit_code == 0, result.output
    assert "rank 4, 6 layers" in result.stdout
    after = contents(model_copy)
    assert {name: digest for name, digest in after.items() if "/nl/" not in name} == before
    assert ModelFolder.open(model_copy).languages() == ("de", "en", "nl", "zh")
    pool = AdapterPool(model_copy, backbone_fingerprint(backbone))
    bank = AdapterBank.attach(backbone, pool)
    base = logits(backbone)
    with bank.use([{"nl": 1.0}, {"nl": 1.0}]):
        torch.testing.assert_close(logits(backbone), logits(reference), atol=1e-5, rtol=0)
    assert (logits(reference) - base).abs().max() > 0.05
    card = pool.card("nl")
    assert (card.labels, card.rank, card.data["adopted"]) == (("PER", "ORG", "LOC"), 4, True)


def test_it_goes_back_to_plain_peft(run: Run, model_copy: Path, trained: Path) -> None:
    import peft

    assert run("adopt", "nl", trained, "--model", model_copy).exit_code == 0
    backbone = backbone_of(model_copy)
    there = logits(peft.PeftModel.from_pretrained(copy.deepcopy(backbone), trained).eval())
    back = peft.PeftModel.from_pretrained(copy.deepcopy(backbone), model_copy / "adapters" / "nl").eval()
    assert torch.equal(logits(back), there)


def test_it_extracts_and_brings_its_knowledge(run: Run, model_copy: Path, trained: Path, tmp_path: Path) -> None:
    from retrieveall import RetrieveAll

    sentences = [Sentence(f"Jan woont in Gent {i}", (Entity(0, 3, "PER", "Jan"),), "nl", f"nl:{i}") for i in range(5)]
    write_jsonl(sentences, tmp_path / "nl.jsonl")
    result = run("adopt", "nl", trained, "--model", model_copy, "--data", tmp_path / "nl.jsonl")
    assert result.exit_code == 0, result.output
    assert "5 sentences of knowledge" in result.stdout
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    routed = model.predict(["Jan woont in Gent 7"])[0]
    assert routed.route.votes["nl"] > 0.5
    assert model.predict(["Jan woont in Gent"], language="nl")[0].route.adapters == {"nl": 1.0}
    one_error(run("adopt", "nl", trained, "--model", model_copy), "already", "remove-language nl")


def test_a_language_found_by_name_only(run: Run, model_copy: Path, trained: Path) -> None:
    from retrieveall import RetrieveAll

    assert "no knowledge" in run("adopt", "nl", trained, "--model", model_copy).stdout
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    assert model.predict(["Jan woont in Gent"], language="nl")[0].route.adapters == {"nl": 1.0}
    assert model.predict(["Karl May in Hamburg"])[0].text


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"use_dora": True}, ["use_dora", "plain LoRA"]),
        ({"bias": "all"}, ["bias", "without biases"]),
        ({"modules_to_save": ["lm_head"]}, ["modules_to_save"]),
        ({"target_modules": ["q_proj", "lm_head"]}, ["lm_head", "output embedding"]),
        ({"target_modules": ["embed_tokens", "q_proj"]}, ["lora_embedding"]),
    ],
    ids=["DoRA", "biases", "whole modules", "the output embedding", "the input embedding"],
)
def test_what_cannot_run_is_refused(
    run: Run, model_copy: Path, tmp_path: Path, settings: dict[str, Any], parts: list[str]
) -> None:
    model = peft_model(backbone_of(model_copy), **{**SETTINGS, **settings})
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    before = contents(model_copy)
    one_error(run("adopt", "nl", tmp_path / "adapter", "--model", model_copy), *parts)
    assert contents(model_copy) == before


def test_another_backbones_adapter_is_refused(run: Run, model_copy: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 360, "hidden_size": 48, "intermediate_size": 48, "num_hidden_layers": 2}
    for change, part in (({}, "shape"), ({"hidden_size": 32, "num_hidden_layers": 3}, "layers.2")):
        other = LlamaForCausalLM(LlamaConfig(**{**sizes, **change}, num_attention_heads=4, num_key_value_heads=2))
        peft_model(other, **SETTINGS).save_pretrained(tmp_path / part)
        one_error(run("adopt", "nl", tmp_path / part, "--model", model_copy), part, "backbone")


def test_a_card_of_ours_is_believed(run: Run, model_copy: Path, trained: Path) -> None:
    card = json.loads((model_copy / "adapters" / "de" / "adapter_card.json").read_text())
    (trained / "adapter_card.json").write_text(json.dumps({**card, "backbone_fingerprint": "0" * 64}))
    one_error(run("adopt", "nl", trained, "--model", model_copy), "adapter_card.json", "backbone 000000")
    (trained / "adapter_card.json").write_text(json.dumps({**card, "labels": ["X"]}))
    one_error(run("adopt", "nl", trained, "--model", model_copy), "PER, ORG, LOC", "X")
    (trained / "adapter_card.json").write_text(json.dumps(card))
    assert run("adopt", "nl", trained, "--model", model_copy).exit_code == 0


def test_no_pickle_is_opened(run: Run, model_copy: Path, trained: Path) -> None:
    (trained / "adapter_model.safetensors").rename(trained / "kept")
    (trained / "adapter_model.bin").write_bytes(pickle.dumps({}))
    one_error(run("adopt", "nl", trained, "--model", model_copy), "adapter_model.bin", "pickle")


def test_bad_adoptions(run: Run, model_copy: Path, trained: Path, tmp_path: Path) -> None:
    one_error(run("adopt", "../nl", trained, "--model", model_copy), "language identifier")
    one_error(run("adopt", "nl", tmp_path / "none", "--model", model_copy), "none", "check the path")
    one_error(run("adopt", "de", trained, "--model", model_copy), "already")
    one_error(run("adopt", "nl", trained), "--copy-to")
    write_jsonl([Sentence("Jan", (Entity(0, 3, "BIRD", "Jan"),), "nl", "1")], tmp_path / "bird.jsonl")
    one_error(run("adopt", "nl", trained, "--model", model_copy, "--data", tmp_path / "bird.jsonl"), "'BIRD'")
    (trained / "adapter_config.json").unlink()
    one_error(run("adopt", "nl", trained, "--model", model_copy), "adapter_config.json")


def test_another_name_of_the_backbone_is_a_note(run: Run, model_copy: Path, trained: Path) -> None:
    path = trained / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "owner/other"}))
    assert run("adopt", "nl", trained, "--model", model_copy).stderr == ""  # a copied backbone has no name to compare
    backbone = model_copy.with_name("owner") / "backbone"
    shutil.copytree(model_copy / "backbone", backbone)
    with Transaction(model_copy) as transaction:
        settings = (model_copy / "retrieveall.yaml").read_text()
        transaction.path("retrieveall.yaml").write_text(settings.replace("path: backbone", f"path: {backbone}"))
    assert "owner/other" in run("adopt", "nl2", trained, "--model", model_copy).stderr
