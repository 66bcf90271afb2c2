"""scripts/mini/strengths.py gives every adapter the best of the multiples of its alpha, once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrieveall.adapters import AdapterPool

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def strengths(monkeypatch: pytest.MonkeyPatch, model_copy: Path, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS / "mini"))
    import strengths  # type: ignore[import-not-found]

    def score(model: Any, sentences: Any, found: Any, adapters: dict[str, float]) -> float:
        return 70.0 if adapters == {"de": 1.4} else 60.0

    monkeypatch.setattr(strengths, "score", score)
    for language, line in {"de": "Köln B-LOC", "en": "London B-LOC", "zh": "北 B-LOC"}.items():
        (tmp_path / "panx" / language).mkdir(parents=True)
        (tmp_path / "panx" / language / "validation.tsv").write_text(line.replace(" ", "\t") + "\n\n", encoding="utf-8")
    arguments = ["--panx", str(tmp_path / "panx"), "--model", str(model_copy), "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["strengths.py", *arguments])
    yield strengths
    for name in ("strengths", "levels"):
        sys.modules.pop(name, None)


def alphas(model: Path) -> dict[str, tuple[float, float]]:
    """Of the weights as they are run, and of the card."""
    pool = AdapterPool(model)
    return {language: (pool.load(language).shape.alpha, pool.card(language).alpha) for language in pool.languages()}


def test_the_best_strength_goes_into_weights_and_card(strengths: Any, model_copy: Path, tmp_path: Path) -> None:
    before = alphas(model_copy)
    strengths.main()
    after = alphas(model_copy)
    assert after["de"] == pytest.approx([1.4 * alpha for alpha in before["de"]])
    assert (after["en"], after["zh"]) == (before["en"], before["zh"]), "a tie is not better"
    assert json.loads((tmp_path / "out.json").read_text())["de"]["best"] == 1.4
    with pytest.raises(SystemExit, match="have been scaled already"):
        strengths.main()
    assert alphas(model_copy) == after


def test_stopped_between_scaling_and_saying_so_it_does_not_scale_twice(
    strengths: Any, model_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = alphas(model_copy)
    real = strengths.scale

    def scale_and_stop(*args: Any) -> None:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(strengths, "scale", scale_and_stop)
    with pytest.raises(KeyboardInterrupt):
        strengths.main()
    monkeypatch.setattr(strengths, "scale", real)
    assert not (tmp_path / "out.json").exists()
    strengths.main()
    assert alphas(model_copy)["de"] == pytest.approx([1.4 * alpha for alpha in before["de"]])
