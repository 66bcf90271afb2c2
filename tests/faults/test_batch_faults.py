"""F7 and F8 through the whole pipeline: languages in one batch do not touch each other, nor does what went wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.types import Entity

Plain = Callable[[Any], list["Entity"]]

TEXTS = [
    "Karl May in London",
    "昨天王小明上了报纸。",
    "Anna Meier",
    "They say that Intel was not there",
    "北京 und Köln",
]


@pytest.mark.parametrize("fixture", ["loaded", "loaded_repeat"])
@pytest.mark.parametrize(
    "languages",
    [
        ["de", "de", "zh", "zh", "de"],  # groups of 2, 0 and 2 rows and one again
        ["zh", "en", "de", "zh", "en"],
        ["en", None, "de", None, "zh"],
    ],
)
def test_languages_in_one_batch_as_each_alone(
    request: pytest.FixtureRequest, fixture: str, languages: list[str | None], without_scores: Plain
) -> None:
    """The adapters have ranks 2, 3 and 8."""
    model: RetrieveAll = request.getfixturevalue(fixture)
    alone = [model.predict([text], language=each)[0] for text, each in zip(TEXTS, languages, strict=True)]
    order = list(range(len(TEXTS)))
    for seed in range(4):
        random.Random(seed).shuffle(order)
        found = model.predict([TEXTS[i] for i in order], language=[languages[i] for i in order])
        for i, prediction in zip(order, found, strict=True):
            assert prediction.route == alone[i].route
            assert without_scores(prediction.entities) == without_scores(alone[i].entities)


def test_an_exception_in_the_middle_of_a_batch_leaves_nothing_behind(
    loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = loaded.engine
    ids, mask = torch.tensor([[40, 50, 60]]), torch.zeros(1, 1, 3, 3)
    with torch.no_grad():
        bare = engine.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = loaded.predict(TEXTS)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine.model.model.layers[1], "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            loaded.predict(TEXTS)
    assert loaded.predict(TEXTS) == expected
    with torch.no_grad():
        after = engine.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(after, bare)  # no adapter is left active
