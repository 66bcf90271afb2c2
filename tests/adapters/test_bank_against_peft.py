"""One adapter a row gives what PEFT gives with that adapter alone; mixtures give the formula of the
method.
"""

from __future__ import annotations

import copy
import itertools

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.adapters import AdapterCard, AdapterPool

ROWS = ["de", None, "zh", "fr", "de", "zh"]  # adapters of rank 2, none, 8, 3 in one batch
TOLERANCE = {"atol": 1e-5, "rtol": 0}


def one_each(rows):
    return [{} if language is None else {language: 1.0} for language in rows]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ["fr"] * 6,
        ["de", "de", None, None, "de", "de"],
        ["zh", "zh", "zh", "fr", "fr", "fr"],
        [None, "zh", None, "zh", None, "zh"],
    ],
    ids=["all different", "all the same", "grouped 2,0,2", "two runs", "with and without"],
)
def test_rows_equal_peft_alone(reference, ids, run, rows):
    model, bank = reference.bank()
    with bank.use(one_each(rows)):
        actual = run(model, ids)
    torch.testing.assert_close(actual, reference.logits(ids, rows), **TOLERANCE)


def test_peft_alone_differs_from_the_base(reference, ids, run):
    """Without this, the equalities could hold for adapters that do nothing."""
    base = run(reference.backbone, ids)
    for model in reference.alone.values():
        assert (run(model, ids) - base).abs().max() > 0.05


def test_rows_without_adapter_are_the_base_exactly(reference, ids, run):
    model, bank = reference.bank()
    base = run(reference.backbone, ids)
    for rows in ([{}] * 6, [{"de": 0.0}, {}] * 3, one_each(ROWS), [{}, {}, {}, {"zh": 1.0}, {"zh": 1.0}, {}]):
        with bank.use(rows):
            actual = run(model, ids)
        bare = [i for i, row in enumerate(rows) if not any(row.values())]
        assert torch.equal(actual[bare], base[bare])
    assert torch.equal(run(model, ids), base)


def test_mixtures_equal_the_formula(reference, ids, run):
    model, bank = reference.bank()
    rows = [
        {"de": 0.6, "fr": 0.4},
        {"de": 0.2, "fr": 0.3, "zh": 0.5},
        {"zh": 0.7},
        {},
        {"fr": 1.0},
        {"de": -0.5},
    ]
    with bank.use(rows):
        actual = run(model, ids)
    for i, row in enumerate(rows):
        expected = reference.merged_logits(ids[i : i + 1], row)
        torch.testing.assert_close(actual[i : i + 1], expected, **TOLERANCE)
    for row in rows:  # all rows alike takes another path
        with bank.use([row] * 6):
            same = run(model, ids)
        torch.testing.assert_close(same, reference.merged_logits(ids, row), **TOLERANCE)


def test_bfloat16_is_as_close_to_peft_as_peft_is_to_float32(reference, ids, run):
    model, bank = reference.bank()
    model.to(torch.bfloat16)
    with bank.use(one_each(ROWS)):
        actual = run(model, ids).float()
    exact = reference.logits(ids, ROWS)
    halves = {name: copy.deepcopy(m).to(torch.bfloat16) for name, m in reference.alone.items()}
    halves[None] = copy.deepcopy(reference.backbone).to(torch.bfloat16)
    peft_half = torch.cat([run(halves[name], ids[i : i + 1]) for i, name in enumerate(ROWS)]).float()
    assert (actual - exact).abs().max() <= 1.5 * (peft_half - exact).abs().max()
    assert (actual - exact).abs().mean() <= 1.2 * (peft_half - exact).abs().mean()


def test_float32_adapters_under_autocast(llama, ids, run):
    model, bank = llama.bank()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for rows in (ROWS, ["de"] * 6):
            with bank.use(one_each(rows)):
                actual = run(model, ids).float()
            torch.testing.assert_close(actual, llama.logits(ids, rows).float(), atol=0.05, rtol=0)


def test_what_we_save_plain_peft_loads(reference, ids, run, tmp_path):
    for language in reference.alone:
        weights = reference.pool.load(language)
        card = AdapterCard(language, ("PER",), "compact.v1", "", weights.shape.rank, weights.shape.alpha)
        AdapterPool.save(tmp_path / language, weights, card)
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(reference.backbone), tmp_path / language)
        assert torch.equal(run(loaded.eval(), ids), run(reference.alone[language], ids))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_split_of_a_batch_gives_the_same_rows(llama, run, data):
    model, bank = llama.bank()
    size = data.draw(st.integers(1, 9))
    ids = torch.randint(0, 97, (size, 5), generator=torch.Generator().manual_seed(size))
    row = st.dictionaries(st.sampled_from(["de", "fr", "zh"]), st.floats(0, 1), max_size=3)
    rows = data.draw(st.lists(row, min_size=size, max_size=size))
    with bank.use(rows):
        whole = run(model, ids)
    order = data.draw(st.permutations(range(size)))
    cuts = sorted(data.draw(st.sets(st.integers(1, size), max_size=3)) | {0, size})
    for start, stop in itertools.pairwise(cuts):
        part = order[start:stop]
        with bank.use([rows[i] for i in part]):
            torch.testing.assert_close(run(model, ids[part]), whole[part], **TOLERANCE)
    bank.detach()
