"""Packed weights: what is written is read, any damage is one error that names the tensor, and such a folder trains."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bert_folders import config_of, pack_folder, save_bert
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool, backbone_fingerprint
from retrieveall.config import LoraSettings, TrainingConfig
from retrieveall.engines.local.backbone import load_backbone, open_backbone
from retrieveall.engines.local.compact_encoder import CompactBert
from retrieveall.engines.local.four_bits import pack, unpack
from retrieveall.engines.local.packed import PACKED, is_packed, read_packed, write_packed
from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.model_folder import ModelFolder
from retrieveall.training.run import LanguageData, add_language, create_model, train
from retrieveall.training.tuning import tune_backbone
from retrieveall.types import Sentence

CPU = torch.device("cpu")
TABLE = "embeddings.word_embeddings.weight"
LINEAR = "encoder.layer.0.output.dense.weight"
BIAS = "encoder.layer.1.output.LayerNorm.bias"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return save_bert(tmp_path_factory.mktemp("plain") / "bert", tiny_tokenizer)


@pytest.fixture
def packed(plain: Path, tmp_path: Path) -> Path:
    """A backbone with packed weights, to break."""
    return pack_folder(plain, tmp_path / "packed")


def test_weights_come_back_but_for_rounding(plain: Path, packed: Path) -> None:
    before, after = load_file(plain / "model.safetensors"), read_packed(packed)
    assert after.keys() == before.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    for name, weight in before.items():
        if name == TABLE:
            assert torch.equal(after[name], unpack(*pack(weight)))
        elif weight.dim() == 2 and "embeddings" not in name:
            step = weight.abs().amax(dim=1, keepdim=True) / 127
            assert ((after[name] - weight).abs() <= 0.51 * step + 2e-3 * weight.abs()).all()
        else:
            assert torch.equal(after[name], weight.half().float())


def test_what_was_read_is_written_to_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    write_packed(read_packed(packed), tmp_path / PACKED)
    assert (tmp_path / PACKED).read_bytes() == (packed / PACKED).read_bytes()


def test_most_weights_have_four_and_eight_bits(plain: Path, packed: Path) -> None:
    assert is_packed(packed)
    assert not is_packed(plain)
    stored = load_file(packed / PACKED)
    assert (stored[f"{TABLE}.codes4"].dtype, stored[f"{TABLE}.codes4"].shape) == (torch.uint8, (360, 32))
    assert (stored[f"{LINEAR}.codes8"].dtype, stored[f"{LINEAR}.codes8"].shape) == (torch.int8, (64, 96))
    assert stored[BIAS].dtype == torch.float16
    assert (packed / PACKED).stat().st_size < 0.4 * (plain / "model.safetensors").stat().st_size


def test_a_table_of_another_width_and_a_row_of_zeros(tmp_path: Path) -> None:
    weights = {TABLE: torch.randn(5, 40), LINEAR: torch.zeros(3, 8)}
    weights[LINEAR][1, 2] = 0.5
    write_packed(weights, tmp_path / PACKED)
    assert torch.equal(read_packed(tmp_path)[TABLE], weights[TABLE].half().float())
    assert read_packed(tmp_path)[LINEAR].nonzero().tolist() == [[1, 2]]


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    stored = load_file(folder / PACKED)
    change(stored)
    save_file(stored, folder / PACKED)


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda stored: stored.update({name: change(stored[name]).contiguous()})


def spoil(number: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.flatten()[-1] = number
        return tensor

    return change


FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scales of four bits": (lambda stored: stored.pop(f"{TABLE}.scales"), TABLE),
    "no scales of eight bits": (lambda stored: stored.pop(f"{LINEAR}.scales"), LINEAR),
    "a scale a row for four bits": (put(f"{TABLE}.scales", lambda scales: scales[:, 0]), TABLE),
    "scales of fewer rows": (put(f"{LINEAR}.scales", lambda scales: scales[1:]), LINEAR),
    "scales that would be broadcast": (put(f"{LINEAR}.scales", lambda scales: scales[:, None]), LINEAR),
    "scales of whole numbers": (put(f"{LINEAR}.scales", lambda scales: scales.int()), LINEAR),
    "codes of another type": (put(f"{TABLE}.codes4", lambda codes: codes.float()), TABLE),
    "signed codes of four bits": (put(f"{TABLE}.codes4", lambda codes: codes.to(torch.int8)), TABLE),
    "unsigned codes of eight bits": (put(f"{LINEAR}.codes8", lambda codes: codes.to(torch.uint8)), LINEAR),
    "codes of half a block": (put(f"{TABLE}.codes4", lambda codes: codes[:, :24]), TABLE),
    "codes in one row": (put(f"{LINEAR}.codes8", lambda codes: codes.flatten()), LINEAR),
    "a number for codes": (put(f"{TABLE}.codes4", lambda codes: codes[0, 0]), TABLE),
    "a weight twice": (lambda stored: stored.update({LINEAR: torch.zeros(64, 96)}), LINEAR),
    "NaN in a scale of four bits": (put(f"{TABLE}.scales", spoil(float("nan"))), TABLE),
    "infinity in a scale of four bits": (put(f"{TABLE}.scales", spoil(float("-inf"))), TABLE),
    "NaN in a scale of eight bits": (put(f"{LINEAR}.scales", spoil(float("nan"))), LINEAR),
    "infinity in a bias": (put(BIAS, spoil(float("inf"))), BIAS),
}


@pytest.mark.parametrize("load", [open_backbone, load_backbone], ids=["inference", "training"])
@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_an_error_that_names_the_tensor(packed: Path, fault: str, load: Any) -> None:
    change, name = FAULTS[fault]
    edit(packed, change)
    with pytest.raises(ModelFolderError) as caught:
        load(config_of(packed), *((None,) if load is load_backbone else (packed.parent, CPU)))
    assert name in str(caught.value)
    assert PACKED in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_weight_that_is_missing_or_does_not_fit(packed: Path) -> None:
    edit(packed, lambda stored: stored.pop(BIAS))
    with pytest.raises(ModelFolderError, match=BIAS):
        open_backbone(config_of(packed), packed.parent, CPU)
    edit(packed, lambda stored: stored.update({BIAS: torch.zeros(63).half()}))
    with pytest.raises(ModelFolderError, match=BIAS):
        open_backbone(config_of(packed), packed.parent, CPU)


def test_files_that_are_no_weights(packed: Path, tmp_path: Path) -> None:
    whole = (packed / PACKED).read_bytes()
    torch.save({"x": torch.zeros(1)}, packed / PACKED)
    with pytest.raises(UnsafeFileError, match="pickle"):
        open_backbone(config_of(packed), tmp_path, CPU)
    for content in (whole[:-1], b"", pickle.dumps({})):
        (packed / PACKED).write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"packed\.safetensors"):
            open_backbone(config_of(packed), tmp_path, CPU)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inference_and_training_have_the_same_backbone(packed: Path, dtype: Any) -> None:
    """Adapters are refused over a backbone of another fingerprint."""
    config = config_of(packed, dtype=dtype)
    compact, whole = open_backbone(config, packed.parent, CPU), load_backbone(config, None)
    assert isinstance(compact, CompactBert)
    assert type(whole).__name__ == "BertModel"
    assert backbone_fingerprint(compact) == backbone_fingerprint(whole)
    held = {n: p.dtype for n, p in compact.named_parameters()}
    table = "embeddings.word_embeddings.weight"  # in float32 it stays packed
    assert held == {n: p.dtype for n, p in whole.named_parameters() if n != table or dtype != "float32"}
    assert not whole.training
    assert not any(parameter.requires_grad for parameter in whole.parameters())


TRAINING = TrainingConfig(steps=3, batch_size=4, learning_rate=0.01, lora=LoraSettings(rank=2))


@pytest.fixture
def model(plain: Path, packed: Path, corpus: dict[str, list[Sentence]], tmp_path: Path) -> Path:
    """A model folder over the packed backbone, without adapters."""
    data = {language: LanguageData(corpus[language]) for language in ("de", "zh")}
    create_model(tmp_path / "model", config_of(packed), data, backbone=packed)
    return tmp_path / "model"


def test_a_model_over_packed_weights_trains_and_grows(
    model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    data = {language: LanguageData(corpus[language][:12], corpus[language][12:]) for language in ("de", "zh")}
    train(model, data, TRAINING, tmp_path / "run", device="cpu", show_bar=False)
    english = LanguageData(corpus["en"][:12], corpus["en"][12:])
    add_language(model, "en", english, TRAINING, tmp_path / "en", device="cpu", show_bar=False)
    folder = ModelFolder.open(model)
    assert folder.languages() == ("de", "en", "zh")
    assert sorted(path.name for path in (model / "backbone").glob("*.safetensors")) == [PACKED]
    opened = RetrieveAll.from_pretrained(model, device="cpu")
    assert isinstance(opened.engine.model, CompactBert)
    fingerprint = backbone_fingerprint(opened.engine.model)
    assert {AdapterPool(model).card(name).backbone_fingerprint for name in folder.languages()} == {fingerprint}
    texts = [sentence.text for own in corpus.values() for sentence in own[:4]]
    for text, prediction in zip(texts, opened.predict(texts), strict=True):
        assert all(text[each.start : each.end] == each.text for each in prediction.entities)


def test_a_changed_byte_is_found_before_it_is_read(model: Path) -> None:
    weights = model / "backbone" / PACKED
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ModelFolderError, match=r"packed\.safetensors"):
        RetrieveAll.from_pretrained(model, device="cpu")


def test_tuning_leaves_weights_of_full_precision(
    model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    data = {language: LanguageData(corpus[language][:12]) for language in ("de", "zh")}
    before = read_packed(model / "backbone")
    config = TRAINING.model_copy(update={"embedding_rate": 0.0})
    tune_backbone(model, data, config, tmp_path / "run", device="cpu", show_bar=False)
    ModelFolder.open(model)
    assert [path.name for path in (model / "backbone").glob("*.safetensors")] == ["model.safetensors"]
    after = load_file(model / "backbone" / "model.safetensors")
    assert torch.equal(after[TABLE], before[TABLE]), "at the rate 0 embeddings stay"
    assert not torch.equal(after[LINEAR], before[LINEAR])
