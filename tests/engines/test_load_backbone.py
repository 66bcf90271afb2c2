"""F1 and F3: a backbone is data. What would run code, fetch, or hang is refused; what is broken is one clear line."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.config import BackboneConfig, LabelConfig, ModelConfig
from retrieveall.engines.local.backbone import load_backbone
from retrieveall.errors import ModelFolderError, RetrieveAllError, UnsafeFileError


class Canary:
    """A pickle that leaves a file where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def config(path: str = "backbone", **options: Any) -> ModelConfig:
    return ModelConfig(labels=(LabelConfig(name="PER"),), backbone=BackboneConfig(path=path, **options))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with a backbone in it, to break."""
    shutil.copytree(tiny_model / "backbone", tmp_path / "model" / "backbone")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_a_sound_backbone_is_frozen_and_evaluates(folder: Path) -> None:
    model = load_backbone(config(dtype="bfloat16"), folder)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_path_elsewhere_is_found(folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.move(folder / "backbone", tmp_path / "elsewhere")
    for path in (str(elsewhere), "../elsewhere"):
        assert load_backbone(config(path), folder).config.hidden_size == 32


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_only_a_pickle(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "backbone" / "model.safetensors").unlink()
    (folder / "backbone" / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(UnsafeFileError, match=r"pickle.*safe_serialization"):
        load_backbone(config(), folder)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_called_safetensors(folder: Path, tmp_path: Path) -> None:
    weights = folder / "backbone" / "model.safetensors"
    for data in (pickle.dumps(Canary(tmp_path / "canary")), b""):
        weights.write_bytes(data)
        with pytest.raises(ModelFolderError, match=r"model\.safetensors"):
            load_backbone(config(), folder)
    torch.save({"x": Canary(tmp_path / "canary")}, weights)
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors"):
        load_backbone(config(), folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tok", None]}},
        {"trust_remote_code": True},
    ],
)
def test_code_that_comes_with_a_model(folder: Path, tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    edit(folder / "backbone" / name, **change)
    (folder / "backbone" / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(UnsafeFileError, match=name):
        load_backbone(config(), folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_compiled_code_from_the_hub(folder: Path, key: str) -> None:
    edit(folder / "backbone" / "config.json", **{key: "someone/kernel"})
    with pytest.raises(UnsafeFileError, match=key):
        load_backbone(config(), folder)


def test_an_adapter_file_that_points_to_another_model(folder: Path) -> None:
    """Transformers would load the model named there in place of the one in the folder."""
    (folder / "backbone" / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "someone/else"})
    )
    with pytest.raises(UnsafeFileError, match=r"adapter_config\.json"):
        load_backbone(config(), folder)


BREAK: dict[str, Callable[[Path], object]] = {
    "no weights": lambda backbone: (backbone / "model.safetensors").unlink(),
    "no config": lambda backbone: (backbone / "config.json").unlink(),
    "config no JSON": lambda backbone: (backbone / "config.json").write_text("{"),
    "unknown architecture": lambda backbone: edit(backbone / "config.json", model_type="nope", architectures=["Nope"]),
    "another width": lambda backbone: edit(backbone / "config.json", hidden_size=64),
    "more layers than weights": lambda backbone: edit(backbone / "config.json", num_hidden_layers=3),
    "truncated weights": lambda backbone: (backbone / "model.safetensors").write_bytes(
        (backbone / "model.safetensors").read_bytes()[:-1]
    ),
}


@pytest.mark.parametrize("fault", BREAK)
def test_a_broken_backbone_is_one_line(folder: Path, fault: str) -> None:
    BREAK[fault](folder / "backbone")
    with pytest.raises(ModelFolderError) as caught:
        load_backbone(config(), folder)
    assert "backbone" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["nowhere", "a/b/c", "/nowhere", "..", pytest.param("x" * 5000, id="long"), "a\0b", "~nobody"]
)
def test_no_such_backbone(folder: Path, path: str) -> None:
    with pytest.raises(RetrieveAllError) as caught:
        load_backbone(config(path), folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
