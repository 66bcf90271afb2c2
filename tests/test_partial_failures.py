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


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_stream_counts_from_its_first_text(loaded: RetrieveAll, batch_size: int) -> None:
    """Whatever the batches are: the number is that of the text in the input."""
    texts = [f"Karl May in Ulm {number}" for number in range(8)]
    bad = 5
    flaky = RetrieveAll(loaded.folder, Flaky(loaded.engine, set()))
    engine: Any = flaky.engine
    stream = flaky.stream(iter(texts), batch_size=batch_size)
    first = bad - bad % batch_size  # of the batch
    assert [next(stream).text for _ in range(first)] == texts[:first]
    engine.failing = {bad - first}  # a short text is one request
    count = min(batch_size, len(texts) - first)
    said = f"^1 of {count} texts from text {first} on failed: text {bad}: no {bad - first}$"
    with pytest.raises(EngineError, match=said) as caught:
        next(stream)
    error = caught.value
    assert (dict(error.failures), error.first) == ({bad: f"no {bad - first}"}, first)
    assert [error.first + i for i, each in enumerate(error.results) if each is None] == [bad]
    assert [each.text for each in error.results if each is not None] == [
        text for i, text in enumerate(texts[first : first + count], first) if i != bad
    ]


def test_a_stream_whose_first_batch_fails_says_what_predict_says(loaded: RetrieveAll) -> None:
    flaky = RetrieveAll(loaded.folder, Flaky(loaded.engine, {1}))
    said = []
    for call in (flaky.predict, lambda texts: list(flaky.stream(texts))):
        with pytest.raises(EngineError) as caught:
            call(["Ulm", "Karl May", "Köln"])
        said.append((str(caught.value), caught.value.failures, caught.value.first))
    assert said[0] == said[1] == ("1 of 3 texts failed: text 1: no 1", {1: "no 1"}, 0)


def test_an_engine_that_is_down_is_not_counted() -> None:
    error = EngineError("no server")
    assert error.in_input(["text 3"], 3) is error
