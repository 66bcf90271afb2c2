"""The settings of every recipe are read strictly, and a small build shares no step with a whole one."""

from __future__ import annotations

import lzma
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import recipes
from recipes.settings import read_settings
from recipes.steps import Step, steps_to_run
from retrieveall.errors import ConfigError

RECIPES = sorted(Path(recipes.__file__).parent.glob("*/recipe.yaml"))


def read(path: Path, **how: Any) -> Any:
    return read_settings(import_module(f"recipes.{path.parent.name}.recipe").Settings, path, **how)


@pytest.fixture(params=RECIPES, ids=lambda path: path.parent.name)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_all_settings_are_known(path: Path) -> None:
    assert read(path) != read(path, small=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("sede=1", "sede"),
        ("model.prompt.max_token=1", "model.prompt.max_token"),
        ("languages=[xx]", "languages.0"),
        ("languages", "KEY=VALUE"),
    ],
)
def test_an_unknown_setting_is_an_error(path: Path, change: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(path, changes=[change])


def test_the_command_line_changes_a_setting(path: Path) -> None:
    changed = read(path, small=True, changes=["model.name=other", "limits.sentences=7"])
    assert (changed.model.name, changed.limits.sentences) == ("other", 7)
    assert changed.model.labels == read(path).model.labels


def test_a_small_build_never_passes_for_a_whole_one(path: Path, tmp_path: Path, tiny_model: Path) -> None:
    recipe = import_module(f"recipes.{path.parent.name}.recipe")
    for language in read(path).languages:
        (tmp_path / language).mkdir()
        for split in ("train", "validation"):
            (tmp_path / language / f"{split}.tsv").write_text("Ulm\tB-LOC\n")
        (tmp_path / f"{language}.txt.xz").write_bytes(lzma.compress(b"Ulm.\n"))

    def folders(settings: Any) -> set[str]:
        backbone = str(tmp_path) if path.parent.name == "base" else None  # mini builds its own
        given = {"panx": tmp_path, "running": tmp_path, "lmtext": tmp_path, "teacher": str(tiny_model)}
        where = Namespace(**given, backbone=backbone, tuned=None, device="cpu")
        last: Step = recipe.model(settings, where)
        return {step.folder(tmp_path).name for step in steps_to_run(last, tmp_path)}

    whole, small = folders(read(path)), folders(read(path, small=True))
    assert whole
    assert small
    assert not whole & small
