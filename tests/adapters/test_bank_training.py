"""Training all languages in one run over shared forward passes gives what one run each gives."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import LoraSettings
from retrieveall.errors import AdapterError, LanguageError

LANGUAGES = ["de", "fr", "zh"]
SETTINGS = LoraSettings(rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj", "v_proj", "down_proj"))
# "fr" is absent from the second batch, and all rows of the third are of one language.
BATCHES = [
    ["de", "fr", "zh", "de", "fr", "zh"],
    ["de", "de", "zh", "zh", "de", "de"],
    ["fr"] * 6,
    ["zh", "de", "fr", "fr", "de", "zh"],
    ["de", "de", "de", "fr", "zh", "zh"],
]


def train(backbone, languages, make_optimizer, settings=SETTINGS):
    """Five steps on the rows of ``languages``; the loss is the sum over rows, so that rows do not share a
    mean.
    """
    model = copy.deepcopy(backbone)
    bank = AdapterBank.attach(model)
    bank.trainable(languages, settings, seed=3)
    optimizer = make_optimizer(bank.parameters())
    generator = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        ids = torch.randint(0, 97, (6, 7), generator=generator)
        kept = [i for i, name in enumerate(batch) if name in languages]
        optimizer.zero_grad(set_to_none=True)
        if kept:
            with bank.use([{batch[i]: 1.0} for i in kept]):
                logits = model(ids[kept]).logits
            F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[kept][:, 1:], reduction="sum").mul(0.01).backward()
        optimizer.step()
    return bank


def set_weights(bank, language, weights):
    """Give a trainable adapter the values of one of the same shape."""
    names = list(bank.export(language).layers)
    values = [tensor for name in names for tensor in (weights.layers[name].a, weights.layers[name].b)]
    with torch.no_grad():
        for parameter, value in zip(bank.parameters_of(language), values, strict=True):
            parameter.copy_(value)


@pytest.mark.parametrize(
    "make_optimizer",
    [lambda p: torch.optim.SGD(p, lr=20.0, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.01)],
    ids=["SGD", "AdamW"],
)
def test_together_equals_alone(llama, make_optimizer):
    together = train(llama.backbone, LANGUAGES, make_optimizer)
    for language in LANGUAGES:
        alone = train(llama.backbone, [language], make_optimizer).export(language)
        for name, layer in together.export(language).layers.items():
            torch.testing.assert_close(layer.a, alone.layers[name].a, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(layer.b, alone.layers[name].b, atol=2e-5, rtol=1e-4)
            assert layer.b.abs().max() > 1e-3  # it was trained at all


@pytest.mark.parametrize("rows", [["de", "zh", "de", "zh"], ["de", "de", "zh", "zh"], ["de", "zh", "zh", "zh"]])
def test_an_absent_language_has_no_gradient_at_all(llama, ids, rows):
    model, bank = llama.bank()
    bank.trainable(LANGUAGES, SETTINGS, seed=1)
    with bank.use([{name: 1.0} for name in rows]):
        model(ids[:4]).logits.square().sum().backward()
    assert all(parameter.grad is None for parameter in bank.parameters_of("fr"))
    for name in ("de", "zh"):
        assert bank.parameters_of(name)
        assert all(parameter.grad is not None for parameter in bank.parameters_of(name))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_equal_pefts(llama, ids):
    """PEFT's model with the same A and B as the reference, one language, then the same rows inside a mixed
    batch.
    """
    model, bank = llama.bank()
    weights = llama.pool.load("de")
    settings = LoraSettings(rank=2, alpha=8.0, dropout=0.0, target_modules=("q_proj", "v_proj"))
    bank.trainable(["de", "fr"], settings, seed=1)
    set_weights(bank, "de", weights)
    with bank.use([{name: 1.0} for name in ["de", "fr", "de", "fr", "de", "de"]]):
        logits = model(ids).logits
    chosen = [0, 2, 4, 5]
    logits[chosen].square().sum().backward()
    other = copy.deepcopy(llama.alone["de"])
    for name, parameter in other.named_parameters():
        parameter.requires_grad_("lora_" in name)
    other(ids[chosen]).logits.square().sum().backward()
    module = "model.layers.1.self_attn.v_proj"
    layer = bank.get_submodule("layers." + module.replace(".", "/"))
    a, b = layer.parameters_of("de")
    theirs = other.base_model.model.get_submodule(module)
    torch.testing.assert_close(a.grad, theirs.lora_A["default"].weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b.grad, theirs.lora_B["default"].weight.grad, atol=1e-4, rtol=1e-4)


def test_a_fresh_adapter_is_the_base_and_starts_like_pefts(llama, ids, run):
    model, bank = llama.bank()
    bank.trainable(["de"], LoraSettings(rank=16, dropout=0.0), seed=1)
    with bank.use([{"de": 1.0}] * 6):
        assert torch.equal(run(model, ids), run(llama.backbone, ids))
    config = peft.LoraConfig(r=16, target_modules=["q_proj"])
    theirs = peft.get_peft_model(copy.deepcopy(llama.backbone), config)
    their_a = theirs.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight
    our_a = bank.export("de").layers["model.layers.0.self_attn.q_proj"].a
    bound = 32**-0.5  # Kaiming uniform with a = sqrt(5) over 32 inputs
    for a in (their_a, our_a):
        assert 0.9 * bound < a.abs().max() <= bound
        assert abs(a.std().item() - bound / 3**0.5) < 0.1 * bound


def test_a_language_starts_alike_whatever_is_trained_with_it(llama):
    _, together = llama.bank()
    together.trainable(["fr", "de"], SETTINGS, seed=7)
    _, alone = llama.bank()
    alone.trainable(["de"], SETTINGS, seed=7)
    _, other_seed = llama.bank()
    other_seed.trainable(["de"], SETTINGS, seed=8)
    name = "model.layers.0.self_attn.q_proj"
    a = together.export("de").layers[name].a
    assert torch.equal(a, alone.export("de").layers[name].a)
    assert not torch.equal(a, together.export("fr").layers[name].a)
    assert not torch.equal(a, other_seed.export("de").layers[name].a)


def test_an_exported_adapter_predicts_what_the_trained_one_did(llama, ids, run):
    bank = train(llama.backbone, LANGUAGES, lambda p: torch.optim.SGD(p, lr=0.1))
    exported = {name: bank.export(name) for name in LANGUAGES}
    model, frozen = llama.bank()
    frozen.trainable(LANGUAGES, SETTINGS, seed=0)
    for name, weights in exported.items():
        set_weights(frozen, name, weights)
    rows = [{name: 1.0} for name in ["de", "fr", "zh", "zh", "de", "fr"]]
    with frozen.use(rows):
        trained = run(model, ids)
    for name in LANGUAGES:
        frozen.add(name, exported[name])
    assert list(frozen.parameters()) == []
    with frozen.use(rows):
        torch.testing.assert_close(run(model, ids), trained, atol=1e-6, rtol=0)
    with pytest.raises(LanguageError, match="being trained"):
        frozen.export("de")


def test_dropout_acts_in_training_mode_on_trainable_rows_only(llama, ids, run):
    model, bank = llama.bank()
    settings = LoraSettings(rank=2, alpha=8.0, dropout=0.5, target_modules=("q_proj", "v_proj"))
    bank.trainable(["de"], settings, 1)
    set_weights(bank, "de", llama.pool.load("de"))
    rows = [{"de": 1.0}, {}, {"fr": 1.0}, {"de": 1.0}, {}, {"fr": 1.0}]
    exact = llama.logits(ids, ["de", None, "fr", "de", None, "fr"])
    with bank.use(rows):
        torch.manual_seed(0)
        dropped, again = run(model, ids), run(model, ids)
    others = [1, 2, 4, 5]
    torch.testing.assert_close(dropped[others], exact[others], atol=1e-5, rtol=0)
    assert (dropped[0] - exact[0]).abs().max() > 1e-3
    assert (dropped[0] - again[0]).abs().max() > 1e-3
    bank.eval()
    with bank.use(rows):
        torch.testing.assert_close(run(model, ids), exact, atol=1e-5, rtol=0)


class Checkpointed(nn.Module):
    """A layer that recomputes its activations in the backward pass, and counts how often it ran."""

    def __init__(self, layer, bank):
        super().__init__()
        self.layer, self.bank, self.runs = layer, bank, 0

    def forward(self, hidden, **kwargs):
        def once(hidden):
            self.runs += 1
            return self.layer(hidden, **kwargs)

        return checkpoint(once, hidden, use_reentrant=False, context_fn=self.bank.checkpoint_contexts)


def gradients(llama, ids, backward, *, dropout=0.0, checkpointing=True):
    """Those of three mixed rows, after ``backward(loss, model, bank)``."""
    model, bank = llama.bank()
    bank.trainable(LANGUAGES, SETTINGS.model_copy(update={"dropout": dropout}), seed=1)
    for language in LANGUAGES:
        with torch.no_grad():
            for parameter in bank.parameters_of(language):
                parameter.add_(0.01)
    if checkpointing:
        layers = [Checkpointed(layer, bank) for layer in model.model.layers]
        model.model.layers = nn.ModuleList(layers)
    torch.manual_seed(0)
    with bank.use([{name: 1.0} for name in ["de", "fr", "zh", "de", "fr", "zh"]]):
        loss = model(ids).logits.square().sum()
    backward(loss, model, bank)
    if checkpointing:
        assert [layer.runs for layer in layers] == [2, 2]
    return [parameter.grad for parameter in bank.parameters()]


def alone(loss, model, bank):
    loss.backward()


def in_another_thread(loss, model, bank):
    """As on a GPU, where autograd has threads of its own."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loss.backward).result(60)


def while_another_thread_uses_others(loss, model, bank):
    inside, done = threading.Event(), threading.Event()

    def use():
        with bank.use([{"zh": 1.0}]):
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=use)
    thread.start()
    inside.wait(60)
    loss.backward()
    done.set()
    thread.join()


def inside_another_use(loss, model, bank):
    """In the thread that holds the lock, and waits for the thread that computes the gradients."""
    with bank.use([{"fr": 1.0}]):
        in_another_thread(loss, model, bank)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("backward", [alone, in_another_thread, while_another_thread_uses_others, inside_another_use])
def test_checkpointing_recomputes_under_the_mixture_of_the_forward_pass(llama, ids, backward, dropout):
    expected = gradients(llama, ids, alone, dropout=dropout, checkpointing=False)
    found = gradients(llama, ids, backward, dropout=dropout)
    for want, got in zip(expected, found, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_after_the_backward_pass_no_thread_has_adapters_active(llama, ids, run):
    model, bank = llama.bank()
    base = run(model, ids)
    bank.trainable(LANGUAGES, SETTINGS, seed=1)
    model.model.layers = nn.ModuleList([Checkpointed(layer, bank) for layer in model.model.layers])
    with ThreadPoolExecutor(1) as pool:
        with bank.use([{"de": 1.0}] * 6):
            loss = model(ids).logits.square().sum()
        pool.submit(loss.backward).result(60)
        assert torch.equal(pool.submit(run, model, ids).result(60), base)
    assert torch.equal(run(model, ids), base)


def test_the_state_dict_holds_the_trainable_adapters(llama):
    _, bank = llama.bank()
    bank.ensure(["zh"])
    bank.trainable(["de", "to"], SETTINGS, seed=1)  # "to" is Tongan, and a method of every module
    names = list(bank.state_dict())
    assert len(names) == 2 * 2 * 6
    assert all(name.endswith(("A_de", "B_de", "A_to", "B_to")) for name in names)


def test_no_such_target_module(llama):
    _, bank = llama.bank()
    with pytest.raises(AdapterError, match=r"c_attn.*q_proj"):
        bank.trainable(["de"], LoraSettings(target_modules=("c_attn",)), seed=1)
