"""A bank that merges adapters into the weights of a product: the results of PEFT, and only where it pays."""

from __future__ import annotations

import pytest
import torch

from retrieveall.adapters.bank import AdapterBank
from retrieveall.adapters.layer_adapters import LayerAdapters
from retrieveall.errors import InputError

LONG = torch.randint(0, 97, (6, 40), generator=torch.Generator().manual_seed(5))
MIXED = {"de": 0.5, "zh": 0.3, "fr": -0.2}


@pytest.fixture
def merges(monkeypatch):
    """The number of merged weights so far, as a list of one number."""
    count = [0]
    merge = LayerAdapters._merge

    def counted(*arguments):
        count[0] += 1
        return merge(*arguments)

    monkeypatch.setattr(LayerAdapters, "_merge", counted)
    return count


def used(bank, model, rows, ids=LONG):
    with torch.inference_mode(), bank.use(rows):
        return model(ids).logits


@pytest.mark.parametrize("rows", [["de"] * 6, ["fr"] * 3 + ["zh"] * 3, ["de", "de", "fr", "fr", None, None]])
def test_rows_of_one_adapter(reference, merges, rows):
    model, bank = reference.bank(merge=True)
    found = used(bank, model, [{} if name is None else {name: 1.0} for name in rows])
    torch.testing.assert_close(found, reference.logits(LONG, rows), atol=2e-5, rtol=1e-4)
    assert merges[0] > 0


def test_rows_of_one_mixture(reference, merges):
    model, bank = reference.bank(merge=True)
    expected = reference.merged_logits(LONG, MIXED)
    torch.testing.assert_close(used(bank, model, [MIXED] * 6), expected, atol=5e-5, rtol=1e-4)
    assert merges[0] > 0


def test_few_tokens_and_mixed_rows_are_not_merged(reference, merges):
    model, bank = reference.bank(merge=True)
    each = [{"de": 1.0}, {"fr": 1.0}, {"zh": 1.0}, {"de": 1.0}, {"fr": 1.0}, {}]
    names = ["de", "fr", "zh", "de", "fr", None]
    torch.testing.assert_close(used(bank, model, each), reference.logits(LONG, names), atol=2e-5, rtol=1e-4)
    short = LONG[:1, :5]
    torch.testing.assert_close(
        used(bank, model, [{"de": 1.0}], short), reference.logits(short, ["de"]), atol=2e-5, rtol=1e-4
    )
    assert merges[0] == 0


def test_no_adapter_is_exactly_the_bare_backbone(reference, merges):
    model, bank = reference.bank(merge=True)
    with torch.inference_mode():
        expected = reference.backbone(LONG).logits
        assert torch.equal(model(LONG).logits, expected)
    assert torch.equal(used(bank, model, [{}] * 6), expected)
    assert merges[0] == 0


def test_an_adapter_that_came_in_place_of_another_is_seen(llama, merges):
    model, bank = llama.bank(merge=True)
    used(bank, model, [{"de": 1.0}] * 6)
    bank.add("de", llama.pool.load("fr"))
    found = used(bank, model, [{"de": 1.0}] * 6)
    torch.testing.assert_close(found, llama.logits(LONG, ["fr"] * 6), atol=2e-5, rtol=1e-4)


def test_gradients_are_those_of_the_products(llama, merges):
    model, bank = llama.bank(merge=True)
    with bank.use([{"de": 1.0}] * 6):
        logits = model(LONG).logits
    torch.testing.assert_close(logits, llama.logits(LONG, ["de"] * 6), atol=2e-5, rtol=1e-4)
    assert merges[0] == 0


def test_a_wrong_number_of_rows_is_an_error(llama):
    model, bank = llama.bank(merge=True)
    with pytest.raises(InputError, match="expected a batch of 5 rows"):
        used(bank, model, [{"de": 1.0}] * 5)


def test_other_precisions_are_not_merged(llama, merges):
    """Their weights would round the adapter away."""
    model = llama.backbone
    half = type(model)(model.config).to(torch.bfloat16).eval()
    bank = AdapterBank.attach(half, llama.pool, merge=True)
    used(bank, half, [{"de": 1.0}] * 6)
    assert merges[0] == 0


def test_detached_the_model_is_as_before(llama):
    model, bank = llama.bank(merge=True)
    with pytest.raises(InputError, match="without a bank"):
        AdapterBank.attach(model)
    bank.detach()
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.inference_mode():
        assert torch.equal(model(LONG).logits, llama.backbone(LONG).logits)
    AdapterBank.attach(model, merge=True).detach()


def test_rows_without_padding(llama, merges):
    """One dimension of tokens, whose rows differ in length: a linear layer alone."""
    model, bank = llama.bank(merge=True)
    linear, width = model.model.layers[0].self_attn.q_proj, 32
    rows = [{"de": 1.0}, {"de": 1.0}, {"fr": 0.4, "zh": 0.6}, {}, {"zh": 1.0}]
    lengths = [50, 9, 70, 3, 2]
    x = torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        with bank.use(rows, lengths):
            found = linear(x).split(lengths)
        assert merges[0] == 2
        for row, part, expected in zip(rows, found, x.split(lengths), strict=True):
            with bank.use([row]):
                torch.testing.assert_close(part, linear(expected[None])[0], atol=2e-5, rtol=1e-4)
