"""Measuring a model otherwise than its folder says, and how cost grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.measure.__main__ import main as measure
from recipes.measure.__main__ import parse
from recipes.measure.scale import main, render_scale
from recipes.measure.scale import parse as parse_scale
from recipes.measure.scale_parts import LANGUAGES, WORDS, RandomText
from recipes.measure.variant import Variant
from retrieveall import RetrieveAll
from retrieveall.errors import InputError
from retrieveall.types import Entity

TEXT = "Karl May in London"


def test_levels_are_what_the_prompt_shows(tiny_model: Path) -> None:
    whole = RetrieveAll.from_pretrained(tiny_model, device="cpu")
    for levels in (["none"], ["entity"], ["context"], ["entity", "context"]):
        variant = Variant.parse(levels, None)
        found = variant.open(str(tiny_model)).predict([TEXT], keep_prompts=True)
        expected = whole.predict([TEXT], levels=variant.levels, keep_prompts=True)
        assert found[0].prompts == expected[0].prompts
        assert found == expected
    assert Variant.parse(None, None).plain
    assert not Variant.parse(["entity"], None).plain


def test_the_precision_is_that_of_the_backbone(tiny_model: Path) -> None:
    from retrieveall.engines.local.fast_linear import Bfloat16Linear

    model = Variant.parse(None, "bfloat16").open(str(tiny_model))
    kinds = {type(module) for module in model.engine.model.modules()}  # type: ignore[attr-defined]
    assert Bfloat16Linear in kinds
    assert model.config.backbone.cpu_precision == "bfloat16"
    assert RetrieveAll.from_pretrained(tiny_model, device="cpu").config.backbone.cpu_precision == "same"


@pytest.mark.parametrize(("levels", "precision"), [(["entities"], None), (None, "int4")])
def test_what_is_not_there_is_refused(levels: list[str] | None, precision: str | None) -> None:
    with pytest.raises(InputError, match="expected"):
        Variant.parse(levels, precision)


def test_results_say_how_the_model_was_run(tiny_model: Path, tmp_path: Path) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out.json"
    texts.write_text(f"case\t{TEXT}\n", encoding="utf-8")
    measure([str(tiny_model), "--ordinary", str(texts), "--levels", "none", "--out", str(out)])
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["variant"] == {"levels": [], "cpu_precision": None}
    assert results["model"] == f"{tiny_model}, levels: none"


def test_the_command_line() -> None:
    args = parse(["--levels", "entity,context", "--cpu-precision", "int8", "--out", "x.json"])
    assert (args.levels, args.cpu_precision) == (("entity", "context"), "int8")
    assert parse_scale(["--sentences", "10,200"]).sentences == [10, 200]
    for wrong in ([], ["--adapters", "0"], ["--adapters", "many"]):
        with pytest.raises(SystemExit):
            parse_scale(wrong)


def test_random_sentences_have_a_name_that_other_sentences_have() -> None:
    some = list(RandomText("de").sentences(300, 20))
    assert {len(each.text.split()) for each in some} == {WORDS}
    for each in some:
        [entity] = each.entities
        assert each.text[entity.start : entity.end] == entity.text
        assert isinstance(entity, Entity)
    assert len({each.entities[0].text for each in some}) <= 20
    new = list(RandomText("de", seed=1).sentences(50, 20))
    assert {each.entities[0].text for each in new} <= {each.entities[0].text for each in some}
    assert not {each.text for each in new} & {each.text for each in some}


def test_results_are_added_and_shown(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scale.json"
    rest = ["--texts", "16", "--rounds", "1", "--model", str(tiny_model), "--rank", "2", "--out", str(out)]
    main(["--sentences", str(8 * len(LANGUAGES)), *rest])
    main(["--adapters", "3", *rest])
    results: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert list(results["sentences"]) == [str(8 * len(LANGUAGES))]
    found = results["adapters"]["3"]
    assert (found["texts"], found["rank"]) == (16, 2)
    assert found["ms_a_text"] > 0
    assert found["peak_memory_mb"] > 10
    shown = capsys.readouterr().out
    assert shown.strip().endswith(render_scale(results).strip())
    assert f"| {8 * len(LANGUAGES)} |" in shown
    assert "| adapters in a batch |" in shown
