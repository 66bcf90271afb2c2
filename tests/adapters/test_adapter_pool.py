"""Adapter folders: read as PEFT wrote them, refused when they are hostile or damaged, before anything
runs.
"""

from __future__ import annotations

import json
import math
import pickle
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieveall.adapters import (
    AdapterCard,
    AdapterPool,
    LoraLayer,
    LoraShape,
    LoraWeights,
    backbone_fingerprint,
    write_adapter,
)
from retrieveall.decoders.calibration import Calibration
from retrieveall.errors import AdapterError, InputError, LanguageError, ModelFolderError, UnsafeFileError
from retrieveall.storage import Manifest

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def pool(llama, tmp_path):
    """A copy of the folder with the adapters of PEFT, for the test to damage."""
    shutil.copytree(llama.folder, tmp_path / "model")
    return AdapterPool(tmp_path / "model")


def weights_file(pool, language="de"):
    return pool.root / "adapters" / language / "adapter_model.safetensors"


def config_file(pool, language="de"):
    return pool.root / "adapters" / language / "adapter_config.json"


def change_tensors(pool, change):
    tensors = load_file(weights_file(pool))
    change(tensors)
    save_file(tensors, weights_file(pool))


def card(language, fingerprint="f" * 64):
    return AdapterCard(
        language,
        ("PER", "LOC"),
        "compact.v1",
        fingerprint,
        2,
        8.0,
        "2026-01-01T00:00:00Z",
        {"sentences": 3},
        {"f1": 0.5},
    )


def test_scalings_and_ranks_are_pefts(llama):
    """PEFT's own modules say what the scaling of every layer is, patterns and rank stabilisation included."""
    for language, model in llama.alone.items():
        weights = llama.pool.load(language)
        theirs = {n: m for n, m in model.base_model.model.named_modules() if hasattr(m, "lora_A")}
        assert weights.layers.keys() == theirs.keys()
        for name, module in theirs.items():
            layer = weights.layers[name]
            assert layer.scaling == pytest.approx(module.scaling["default"])
            assert layer.rank == module.r["default"] == weights.shape.rank_of(name)
            assert torch.equal(layer.b, module.lora_B["default"].weight)
    assert llama.pool.load("zh").layers["model.layers.1.self_attn.k_proj"].rank == 5


def test_saved_and_loaded_again_is_the_same(pool, tmp_path):
    for language in ("de", "fr", "zh"):
        weights = pool.load(language)
        AdapterPool.save(tmp_path / "new/adapters" / language, weights, card(language))
        again = AdapterPool(tmp_path / "new").load(language)
        assert again.layers.keys() == weights.layers.keys()
        for name, layer in weights.layers.items():
            assert torch.equal(again.layers[name].a, layer.a)
            assert torch.equal(again.layers[name].b, layer.b)
            assert again.layers[name].scaling == layer.scaling
        assert AdapterPool(tmp_path / "new").card(language) == card(language)


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.4])
@pytest.mark.parametrize("language", ["de", "fr", "zh"])
def test_the_lora_scaling_times_a_factor(pool, llama, ids, tmp_path, language, factor):
    """With patterns, rank stabilisation and after saving; the matrices stay, and so does the original."""
    weights = pool.load(language)
    before = {name: layer.scaling for name, layer in weights.layers.items()}
    scaled = weights.scaled(factor)
    write_adapter(tmp_path / "adapters" / language, scaled)
    for found in (scaled, AdapterPool(tmp_path).load(language)):
        assert found.shape.alpha == pytest.approx(factor * weights.shape.alpha)
        for name, layer in found.layers.items():
            assert layer.scaling == pytest.approx(factor * before[name])
            assert torch.equal(layer.a, weights.layers[name].a)
            assert torch.equal(layer.b, weights.layers[name].b)
    assert {name: layer.scaling for name, layer in weights.layers.items()} == before
    model, bank = llama.bank()
    bank.add(language, scaled)
    with torch.no_grad(), bank.use([{language: 1.0}] * 6):
        logits = model(ids).logits
    torch.testing.assert_close(logits, llama.merged_logits(ids, {language: factor}), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_that_is_not_positive(pool, factor):
    with pytest.raises(InputError, match="expected a positive factor"):
        pool.load("de").scaled(factor)


def test_saving_twice_gives_the_same_bytes(pool, tmp_path):
    for name in ("one", "two"):
        AdapterPool.save(tmp_path / name, pool.load("de"), card("de"))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["adapter_card.json", "adapter_config.json", "adapter_model.safetensors"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_cards_written_before_calibrations_knew_lengths_still_load(tmp_path):
    path = tmp_path / "adapter_card.json"
    raw = json.loads(card("de").to_bytes())
    for written in ([0.5, -0.25], [0.5, -0.25, -1], [0.5, -0.25, -1, 0.1, 0.2, -0.3]):
        path.write_text(json.dumps({**raw, "calibration": written}))
        assert Calibration(*AdapterCard.load(tmp_path).calibration)[: len(written)] == tuple(written)
    for wrong in ([0.5], [0.5, 0, 0, 0], [0.5, "x", 0], [1e9, 0, 0], [0, 0, 0, 0, 0, 0, 0]):
        path.write_text(json.dumps({**raw, "calibration": wrong}))
        with pytest.raises(AdapterError, match="two, three or six numbers"):
            AdapterCard.load(tmp_path)


def test_languages_come_from_the_manifest_where_there_is_one(pool):
    assert pool.languages() == ("de", "fr", "zh")
    manifest = Manifest.of(pool.root)
    manifest.update({}, manifest.names("adapters/fr")).write()
    assert pool.languages() == ("de", "zh")
    with pytest.raises(LanguageError, match=r"de, zh.*'fr'"):
        pool.load("fr")


def test_a_language_is_found_without_a_list_of_all(pool, monkeypatch):
    """With thousands of adapters the list takes longer than the adapter."""
    monkeypatch.setattr(AdapterPool, "languages", lambda _: pytest.fail("listed"))
    assert pool.has("de")
    assert not pool.has("xx")
    assert pool.load("de").shape.rank > 0
    with pytest.raises(LanguageError):
        pool.has("../de")


def test_an_empty_folder_has_no_languages(tmp_path):
    assert AdapterPool(tmp_path).languages() == ()


@pytest.mark.parametrize(
    "language", ["../de", "..", "de/..", "C:\\de", "d\0e", "x" * 10_000, "", "con", "/etc", ".", "dé", "a b"]
)
def test_hostile_language_ids(pool, language):
    for act in (pool.load, pool.card, pool.folder):
        with pytest.raises(LanguageError) as caught:
            act(language)
        assert len(str(caught.value)) < 400


def test_a_link_out_of_the_model_folder(pool, tmp_path):
    outside = tmp_path / "outside"
    (pool.root / "adapters/de").rename(outside)
    (pool.root / "adapters/de").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="link out of its folder"):
        pool.load("de")


def test_a_weights_file_that_links_out(pool, tmp_path):
    weights_file(pool).rename(tmp_path / "secret")
    weights_file(pool).symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFileError, match="link out of its folder"):
        pool.load("de")


class _Canary:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("only_bin", [True, False], ids=["only .bin", "pickle renamed .safetensors"])
@pytest.mark.parametrize("as_zip", [True, False], ids=["torch.save", "pickle"])
def test_pickles_never_run(pool, tmp_path, only_bin, as_zip):
    canary = tmp_path / "canary"
    path = weights_file(pool)
    path.unlink()
    target = path.with_name("adapter_model.bin") if only_bin else path
    if as_zip:
        torch.save(_Canary(canary), target)
    else:
        target.write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        pool.load("de")
    assert not canary.exists()
    pickle.loads(pickle.dumps(_Canary(canary)))  # the trap works
    assert canary.exists()


def _header(tensors, data=b"", length=None):
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _tensor(start, end, shape=(2, 2), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header too small"),
        (b"\x01\x02", "header too small"),
        (_header({}, length=1 << 62), "header too large"),
        (_header({}, length=99_999_999), "invalid header length"),
        (_header(b"{not json}"), "invalid JSON"),
        (_header(b"{" + b'"a":{' * 5000), "invalid JSON"),
        (_header(b'{"a":1,"a":2}'), "invalid JSON"),
        (_header(b"[]"), "invalid JSON"),
        (_header({"x": [1]}), "invalid JSON"),
        (_header({"x": _tensor(0, 16), "y": _tensor(8, 24)}, bytes(24)), "tensor `y`"),
        (_header({"x": _tensor(0, 16), "y": _tensor(0, 16)}, bytes(16)), "tensor `[xy]`"),
        (_header({"x": _tensor(8, 24)}, bytes(24)), "tensor `x`"),
        (_header({"x": _tensor(0, 16)}, bytes(20)), "not fully covered"),
        (_header({"x": _tensor(0, 16)}, bytes(8)), "not fully covered"),
        (_header({"x": _tensor(0, 16, (2, 3))}, bytes(16)), "invalid shape"),
        (_header({"x": _tensor(0, 16, (10**9, 10**9, 10**9))}, bytes(16)), "overflow"),
        (_header({"x": _tensor(0, 16, (-2, -2))}, bytes(16)), "invalid value"),
        (_header({"x": _tensor(0, 16, dtype="PICKLE")}, bytes(16)), "unknown variant"),
        (_header({"x": _tensor(-8, 8)}, bytes(16)), "invalid value"),
        (_header({"x": _tensor(0, 16)}, bytes(16)), "unexpected tensor 'x'"),
        (_header({}), "no tensors"),
    ],
)
def test_headers_that_lie(pool, content, message):
    weights_file(pool).write_bytes(content)
    with pytest.raises(AdapterError, match=message) as caught:
        pool.load("de")
    assert str(weights_file(pool)) in str(caught.value)
    assert "\n" not in str(caught.value)
    pool.load("fr")  # the others keep working


@pytest.mark.parametrize("name", ["x" * 10_000, f"{Q0[:17]}{'x' * 100_000}.lora_A.weight"])
def test_long_names_are_shortened_in_errors(pool, name):
    weights_file(pool).write_bytes(_header({name: _tensor(0, 4, (1,) * 10_000)}, bytes(4)))
    with pytest.raises(AdapterError) as caught:
        pool.load("de")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_tensors_that_are_not_finite(pool, value):
    def spoil(tensors):
        tensors[f"{Q0}.lora_B.weight"][3, 1] = value

    change_tensors(pool, spoil)
    with pytest.raises(AdapterError, match=rf"{Q0}\.lora_B\.weight contains NaN"):
        pool.load("de")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{Q0}.lora_A.weight"), rf"{Q0}\.lora_A\.weight is missing"),
        (lambda t: t.update({"lm_head.weight": torch.ones(2, 2)}), "unexpected tensor 'lm_head.weight'"),
        (lambda t: t.update({f"{Q0}.lora_magnitude_vector": torch.ones(2)}), "unexpected tensor"),
        (lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(3, 32)}), "has rank 3"),
        (lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(64)}), "expected a float matrix"),
        (
            lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(2, 32).int()}),
            "I32.*expected a float matrix",
        ),
        (
            lambda t: t.update({f"{Q0[:-6]}k_proj.lora_A.weight": torch.ones(2, 32)}),
            "k_proj.lora_A.weight is not of the configured",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if "v_proj" in name],
            "no tensors for the target module 'v_proj'",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_configuration(pool, change, message):
    change_tensors(pool, change)
    with pytest.raises(AdapterError, match=message):
        pool.load("de")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "expected peft_type LORA"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"bias": "all"}, "bias 'none'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the backbone"),
        ({"r": 0}, "rank of 1"),
        ({"r": "2"}, "rank of 1"),
        ({"r": True}, "rank of 1"),
        ({"r": 10**30}, "rank of 1"),
        ({"r": 5}, "has rank 2"),
        ({"lora_alpha": None}, "positive number as lora_alpha"),
        ({"lora_alpha": float("nan")}, "positive number as lora_alpha"),
        ({"use_rslora": "yes"}, "true or false"),
        ({"target_modules": {"q_proj": 1}}, "list of names"),
        ({"rank_pattern": {"(a+)+$": 2}}, "plain module names"),
        ({"rank_pattern": [1]}, "plain module names"),
    ],
)
def test_configurations_that_cannot_be_used(pool, edit_json, changes, message):
    edit_json(config_file(pool), **changes)
    with pytest.raises(AdapterError, match=message):
        pool.load("de")


@pytest.mark.parametrize("changes", [{"auto_map": {"AutoModel": "evil.Model"}}, {"x": [{"trust_remote_code": True}]}])
def test_configurations_that_ask_for_code(pool, edit_json, changes):
    edit_json(config_file(pool), **changes)
    with pytest.raises(UnsafeFileError, match="asks to import code"):
        pool.load("de")


def test_a_regular_expression_is_not_evaluated_and_the_base_model_path_not_followed(pool, edit_json):
    edit_json(config_file(pool), target_modules="(a+)+$", base_model_name_or_path="/etc/passwd")
    assert pool.load("de").shape.target_modules == ()


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_damage_is_found_by_the_manifest(pool, file, damage):
    Manifest.of(pool.root).write()
    path = pool.root / "adapters/de" / file
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    else:
        data[-2] ^= 1
        path.write_bytes(data)
    with pytest.raises(ModelFolderError, match=f"{file} (is missing|is truncated|was altered)"):
        pool.load("de")
    pool.load("fr")


def test_without_a_manifest_a_missing_file_is_named(pool):
    weights_file(pool).unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors is missing"):
        pool.load("de")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff\xfe\x00", b'{"a":' * 100_000],
    ids=["empty", "list", "cut", "binary", "deep"],
)
def test_configurations_that_are_no_json(pool, data):
    config_file(pool).write_bytes(data)
    with pytest.raises(ModelFolderError, match=r"adapter_config\.json"):
        pool.load("de")


def test_an_adapter_of_another_backbone(pool, llama):
    fingerprint = backbone_fingerprint(llama.backbone)
    AdapterPool.save(pool.root / "adapters/de", pool.load("de"), card("de", fingerprint))
    AdapterPool(pool.root, fingerprint).load("de")
    AdapterPool(pool.root, fingerprint).load("fr")  # PEFT's own folder has no card to compare
    with pytest.raises(AdapterError, match=f"{fingerprint[:12]}, this one is 000000000000"):
        AdapterPool(pool.root, "0" * 64).load("de")


@pytest.mark.parametrize(
    "changes",
    [{"rank": "2"}, {"labels": "PER"}, {"unknown": 1}, {"scores": []}, {"alpha": None}, {"language": 1}],
)
def test_malformed_cards(pool, edit_json, changes):
    path = pool.root / "adapters/de/adapter_card.json"
    path.write_bytes(card("de").to_bytes())
    assert pool.card("de") == card("de")
    edit_json(path, **changes)
    with pytest.raises(AdapterError, match=f"field '{next(iter(changes))}'"):
        pool.card("de")


def test_a_missing_card_is_named(pool):
    with pytest.raises(ModelFolderError, match=r"adapter_card\.json is missing"):
        pool.card("de")


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    layer = LoraLayer(torch.full((1, 2), math.nan), torch.ones(2, 1), 1.0)
    with pytest.raises(AdapterError, match="was not saved"):
        AdapterPool.save(tmp_path / "x", LoraWeights(LoraShape(1, 1.0), {"q_proj": layer}), card("de"))
    assert not (tmp_path / "x").exists()


def test_the_fingerprint_tells_backbones_apart(llama, make):
    fingerprint = backbone_fingerprint(llama.backbone)
    assert fingerprint == backbone_fingerprint(make("llama"))
    assert fingerprint == backbone_fingerprint(llama.backbone.state_dict())
    others = {backbone_fingerprint(make("llama", seed=1)), backbone_fingerprint(make("qwen2"))}
    retrained = make("llama")
    with torch.no_grad():
        for parameter in retrained.parameters():
            parameter.add_(1e-4)
    others.add(backbone_fingerprint(retrained))
    assert len(others | {fingerprint}) == 4


def test_listing_adapters_loads_no_torch(llama):
    code = (
        "import sys, pathlib; from retrieveall.adapters import AdapterPool; "
        f"print(AdapterPool(pathlib.Path({str(llama.folder)!r})).languages(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('de', 'fr', 'zh') False"
