"""The model that the integrations open, whatever its name."""

from __future__ import annotations

import pytest

from known_names import KnownNames
from retrieveall import RetrieveAll

NAMES = {"Ada Lovelace": ("PER", 0.75), "London": ("LOC", 0.5), "北京": ("LOC", 0.9), "IBM": ("ORG", 0.25)}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> KnownNames:
    """The model that every name opens."""
    model = KnownNames(NAMES)
    model.languages = ("en", "zh")
    monkeypatch.setattr(RetrieveAll, "from_pretrained", lambda name="base", **_: model)
    return model
