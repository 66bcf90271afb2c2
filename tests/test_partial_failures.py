"""Requests of which some fail: texts fail as a whole, and nothing that was finished is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.errors import EngineError
from tiny import Flaky

LONG = "Anna Meier war mit Karl May in Köln und Ulm bei Siemens " * 8
TEXTS = ["Karl May in London", LONG, "昨天李白上了报纸。", "", "Ada Lovelace met J. Smith in New York"]


@pytest.fixture(scope="module")
def generating(tiny_generating_model: Path) -> RetrieveAll:
    return RetrieveAll.from_pretrained(tiny_generating_model, device="cpu")


@pytest.fixture(params=["loaded", "loaded_repeat", "generating"])
def flaky(request: pytest.FixtureRequest) -> RetrieveAll:
    """A model whose engine can be made to fail."""
    model: RetrieveAll = request.getfixturevalue(request.param)
    return RetrieveAll(model.folder, Flaky(model.engine, set()))


def test_a_text_with_a_failed_window_fails_and_the_others_do_not(flaky: RetrieveAll) -> None:
    engine: Any = flaky.engine
    whole = flaky.predict(TEXTS)
    documents = [window.document for window in flaky.stages.window(TEXTS)]
    assert documents.count(1) > 3
    assert sum(len(each.entities) for each in whole) > 3
    for number, document in enumerate(documents):
        engine.failing = {number}
        with pytest.raises(EngineError, match=f"1 of 5 texts failed: text {document}: no {number}") as caught:
            flaky.predict(TEXTS)
        assert dict(caught.value.failures) == {document: f"no {number}"}
        assert list(caught.value.results) == [None if i == document else each for i, each in enumerate(whole)]


def test_several_windows_of_one_text_are_one_failure(flaky: RetrieveAll) -> None:
    engine: Any = flaky.engine
    documents = [window.document for window in flaky.stages.window(TEXTS)]
    engine.failing = {number for number, document in enumerate(documents) if document in (1, 2)}
    with pytest.raises(EngineError, match="2 of 5 texts failed") as caught:
        flaky.predict(TEXTS)
    assert set(caught.value.failures) == {1, 2}
    assert [each is None for each in caught.value.results] == [False, True, True, False, False]


def test_all_of_them(flaky: RetrieveAll) -> None:
    engine: Any = flaky.engine
    engine.failing = set(range(99))
    with pytest.raises(EngineError, match=r"4 of 5 texts failed.*and 1 more") as caught:
        flaky.predict(TEXTS)
    kept = [each for each in caught.value.results if each is not None]
    assert [each.text for each in kept] == [""]  # nothing was asked about it


def test_labels_and_threshold_hold_for_what_is_kept(flaky: RetrieveAll) -> None:
    engine: Any = flaky.engine
    expected = flaky.predict(TEXTS, labels="PER", threshold=0.3)
    engine.failing = {0}
    with pytest.raises(EngineError) as caught:
        flaky.predict(TEXTS, labels="PER", threshold=0.3)
    assert list(caught.value.results) == [None, *expected[1:]]
