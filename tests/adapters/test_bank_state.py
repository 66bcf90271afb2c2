"""What is active, when: exceptions, nesting, threads, adapters that come and go in a running process."""

from __future__ import annotations

import copy
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from retrieveall.adapters import LoraLayer, LoraShape, LoraWeights
from retrieveall.adapters.bank import AdapterBank
from retrieveall.errors import AdapterError, InputError, LanguageError


def scaled(weights: LoraWeights, factor: float) -> LoraWeights:
    layers = {name: LoraLayer(x.a, x.b * factor, x.scaling) for name, x in weights.layers.items()}
    return LoraWeights(weights.shape, layers)


class Boom(Exception):
    pass


def test_an_exception_in_the_middle_of_a_forward_leaves_nothing_behind(llama, ids, run):
    model, bank = llama.bank()
    base = run(llama.backbone, ids)

    def fail(*_):
        raise Boom

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(Boom), bank.use([{"de": 1.0}] * 6):
        run(model, ids)
    handle.remove()
    assert torch.equal(run(model, ids), base)
    with bank.use([{"fr": 1.0}] * 6):
        torch.testing.assert_close(run(model, ids), llama.logits(ids, ["fr"] * 6), atol=1e-5, rtol=0)


def test_an_exception_in_an_inner_use_restores_the_outer_one(llama, ids, run):
    model, bank = llama.bank()
    with bank.use([{"de": 1.0}] * 6):
        before = run(model, ids)
        with pytest.raises(Boom), bank.use([{"zh": 1.0}]):
            raise Boom
        assert torch.equal(run(model, ids), before)


def test_wrong_number_of_rows_is_an_error_and_not_a_broadcast(llama, ids, run):
    model, bank = llama.bank()
    base = run(model, ids)
    for rows in ([{"de": 1.0}], [{"de": 1.0}] * 5 + [{}] * 2):
        with pytest.raises(InputError, match=rf"expected a batch of {len(rows)} rows.*got 6"), bank.use(rows):
            run(model, ids)
    with pytest.raises(InputError, match="finite"), bank.use([{"de": float("nan")}]):
        pass
    assert torch.equal(run(model, ids), base)


def test_unknown_language_names_the_known_ones(llama):
    _, bank = llama.bank()
    with pytest.raises(LanguageError, match=r"de, fr, zh.*'xx'"), bank.use([{"xx": 1.0}]):
        pass
    with pytest.raises(LanguageError), bank.use([{"../de": 1.0}]):
        pass
    with pytest.raises(LanguageError, match="'de' is loaded"):
        bank.remove("de")


def test_reloaded_under_the_same_name_takes_effect(llama, ids, run):
    model, bank = llama.bank()
    with bank.use([{"de": 1.0}] * 6):
        first = run(model, ids)
    bank.add("de", scaled(llama.pool.load("de"), 3.0))
    with bank.use([{"de": 1.0}] * 6):
        second = run(model, ids)
    assert (second - first).abs().max() > 0.05
    bank.add("de", llama.pool.load("fr"))  # another rank and other modules under the same name
    with bank.use([{"de": 1.0}] * 6):
        torch.testing.assert_close(run(model, ids), llama.logits(ids, ["fr"] * 6), atol=1e-5, rtol=0)


def test_adding_and_removing_leaves_the_others_bit_identical(llama, ids, run):
    model, bank = llama.bank()
    for rows in (["de", "fr"] * 3, ["de"] * 3 + ["fr"] * 3, ["fr"] * 6):
        weights = [{name: 1.0} for name in rows]
        with bank.use(weights):
            before = run(model, ids)
        bank.add("zh", llama.pool.load("zh"))
        with bank.use(weights):
            assert torch.equal(run(model, ids), before)
        bank.remove("zh")
        with bank.use(weights):
            assert torch.equal(run(model, ids), before)


def test_an_adapter_in_use_is_not_removed(llama):
    _, bank = llama.bank()
    with bank.use([{"de": 1.0}]), pytest.raises(InputError, match="in use"):
        bank.remove("de")
    bank.remove("de")
    assert bank.languages == ()


def test_least_recently_used_go_and_come_back(llama, ids, run, tmp_path):
    names = [f"x{i}" for i in range(12)]
    for name in names:
        shutil.copytree(llama.folder / "adapters" / "de", tmp_path / "adapters" / name)
    model = copy.deepcopy(llama.backbone)
    bank = AdapterBank.attach(model, type(llama.pool)(tmp_path), max_loaded=3)
    bank.add("own", llama.pool.load("fr"))  # not of the pool: could not come back, so it never goes
    expected = llama.logits(ids[:1], ["de"])
    for name in names:
        with bank.use([{name: 1.0}]):
            torch.testing.assert_close(run(model, ids[:1]), expected, atol=1e-5, rtol=0)
    assert bank.languages == ("own", "x10", "x11")
    with bank.use([{"x10": 1.0}]):
        pass
    with bank.use([{"x0": 1.0}]):
        pass
    assert set(bank.languages) == {"own", "x10", "x0"}
    with bank.use([{name: 1.0} for name in names[:6]]):  # a batch may need more than stay
        torch.testing.assert_close(run(model, ids[:1].expand(6, -1)), expected.expand(6, -1, -1), atol=1e-5, rtol=0)
    with bank.use([{}]):
        assert len(bank.languages) == 3


def test_a_broken_adapter_does_not_disturb_the_others(llama, ids, run, tmp_path):
    shutil.copytree(llama.folder, tmp_path / "m")
    (tmp_path / "m/adapters/fr/adapter_model.safetensors").write_bytes(b"garbage")
    model = copy.deepcopy(llama.backbone)
    bank = AdapterBank.attach(model, type(llama.pool)(tmp_path / "m"))
    with pytest.raises(AdapterError), bank.use([{"de": 1.0}] * 5 + [{"fr": 1.0}]):
        pass
    with bank.use([{"de": 1.0}] * 6):
        torch.testing.assert_close(run(model, ids), llama.logits(ids, ["de"] * 6), atol=1e-5, rtol=0)


def test_threads_never_see_each_others_adapters(llama, ids, run):
    model, bank = llama.bank()
    languages = ["de", "fr", "zh"]
    expected = {name: llama.logits(ids, [name] * 6) for name in languages}
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(10):
            with bank.use([{name: 1.0}] * 6):
                if not torch.allclose(run(model, ids), expected[name], atol=1e-5):
                    wrong.append(name)

    def churn() -> None:
        for i in range(20):
            bank.add("extra", scaled(llama.pool.load("de"), i))

    threads = [threading.Thread(target=work, args=(name,)) for name in languages]
    threads.append(threading.Thread(target=churn))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert "extra" in bank.languages


def elsewhere(work):
    """What ``work`` returns in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


@pytest.mark.parametrize("rows", [[{"de": 1.0}] * 6, [{"de": 1.0}, {"zh": 0.5}] * 3, [{"de": 1.0}] * 2])
def test_a_forward_pass_in_another_thread_is_the_bare_backbone(llama, ids, run, rows):
    """Also where the rows of ``use`` would not fit its batch."""
    model, bank = llama.bank()
    base = run(model, ids)
    with bank.use(rows):
        assert torch.equal(elsewhere(lambda: run(model, ids)), base)
        if len(rows) == 6:
            assert (run(model, ids) - base).abs().max() > 1e-3
        with bank.use([{"fr": 1.0}] * 6):
            assert torch.equal(elsewhere(lambda: run(model, ids)), base)
    assert torch.equal(run(model, ids), base)


def test_threads_outside_use_while_others_are_inside(llama, ids, run):
    model, bank = llama.bank()
    base = run(model, ids)
    expected = llama.logits(ids, ["de"] * 6)
    stop, wrong = threading.Event(), []

    def outside():
        while not stop.is_set():
            if not torch.equal(run(model, ids), base):
                wrong.append("outside")

    def inside():
        for _ in range(20):
            with bank.use([{"de": 1.0}] * 6):
                if not torch.allclose(run(model, ids), expected, atol=1e-5):
                    wrong.append("inside")

    threads = [threading.Thread(target=outside), threading.Thread(target=inside), threading.Thread(target=inside)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    stop.set()
    threads[0].join()
    assert wrong == []


def test_adapters_of_another_backbone_are_refused(llama):
    _, bank = llama.bank()
    shape = LoraShape(rank=2, alpha=4)
    name = "model.layers.0.self_attn.q_proj"
    good = LoraLayer(torch.ones(2, 32), torch.ones(32, 2), 2.0)
    cases = {
        r"no linear layer model\.layers\.9": {"model.layers.9.self_attn.q_proj": good},
        r"q_proj\.lora_A has shape \(2, 31\)": {name: LoraLayer(torch.ones(2, 31), good.b, 2.0)},
        r"q_proj\.lora_B has shape \(33, 2\)": {name: LoraLayer(good.a, torch.ones(33, 2), 2.0)},
    }
    for message, layers in cases.items():
        with pytest.raises(AdapterError, match=message):
            bank.add("de", LoraWeights(shape, layers))
    with pytest.raises(AdapterError, match=r"no tensors for model\.layers\.1\.self_attn\.q_proj"):
        bank.add("de", LoraWeights(LoraShape(2, 4, target_modules=("q_proj",)), {name: good}))
    assert bank.languages == ()


def test_the_backbone_keeps_its_names_and_carries_one_bank(llama, ids, run):
    model, bank = llama.bank()
    bank.ensure(["de"])
    assert model.state_dict().keys() == llama.backbone.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert list(bank.state_dict()) == []
    with pytest.raises(InputError, match="without a bank"):
        AdapterBank.attach(model)
    with pytest.raises(InputError, match="max_loaded"):
        AdapterBank.attach(copy.deepcopy(llama.backbone), max_loaded=0)
    bank.detach()
    AdapterBank.attach(model)
    assert torch.equal(run(model, ids), run(llama.backbone, ids))
