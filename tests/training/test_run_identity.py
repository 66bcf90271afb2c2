"""What a run folder belongs to, and what of it may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retrieveall.config import TrainingConfig
from retrieveall.errors import DataError
from retrieveall.training.identity import check_identity, write_identity

NAME = "training settings"


def begun(folder: Path, settings: dict[str, Any]) -> None:
    write_identity(folder, {NAME: settings})


def check(folder: Path, config: TrainingConfig) -> None:
    check_identity(folder, {NAME: config.identity()}, {NAME: config.identity(changed=True)})


def test_setting_of_later_version_at_its_default_does_not_stop_a_run(tmp_path: Path) -> None:
    config = TrainingConfig(learning_rate=0.003)
    old = config.identity()
    del old["together"], old["lora"]["scalings"]
    begun(tmp_path, old)
    check(tmp_path, config)


@pytest.mark.parametrize(
    ("removed", "config"),
    [("together", {"together": 0.5}), ("lora", {"lora": {"rank": 3}}), ("lora.rank", {"lora": {"rank": 3}})],
)
def test_setting_of_later_version_with_another_value_is_another_run(
    tmp_path: Path, removed: str, config: dict[str, Any]
) -> None:
    settings = TrainingConfig.model_validate(config)
    old: Any = settings.identity()
    *parents, last = removed.split(".")
    inner = old
    for name in parents:
        inner = inner[name]
    del inner[last]
    begun(tmp_path, old)
    with pytest.raises(DataError, match=rf"differs in training settings: {removed.split('.')[0]}"):
        check(tmp_path, settings)


def test_setting_that_a_version_no_longer_has_is_another_run(tmp_path: Path) -> None:
    begun(tmp_path, {**TrainingConfig().identity(), "momentum": 0.9})
    with pytest.raises(DataError, match=r"momentum 0\.9 then, not set now"):
        check(tmp_path, TrainingConfig())


def test_key_of_an_adapter_has_no_settings_at_their_default() -> None:
    assert json.loads(json.dumps(TrainingConfig(epochs=7).identity(changed=True))) == {"epochs": 7}
