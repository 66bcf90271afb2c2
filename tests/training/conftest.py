"""A model that was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import CONFIG, data_of

from retrieveall import RetrieveAll
from retrieveall.types import Sentence


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path, corpus: dict[str, list[Sentence]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """``tiny_model`` with the adapters of de and zh trained in one run."""
    from retrieveall.training.run import train

    folder = tmp_path_factory.mktemp("trained")
    RetrieveAll.from_pretrained(tiny_model, device="cpu").save_pretrained(folder / "model")
    scores = train(folder / "model", data_of(corpus, "de", "zh"), CONFIG, folder / "run", device="cpu", show_bar=False)
    return folder / "model", scores
