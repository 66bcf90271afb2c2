"""The integrations given something else than a model, or options that do not exist: one line, before the first text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from known_names import KnownNames
from retrieveall.errors import InputError
from retrieveall.integrations.gliner import EntityPredictor
from retrieveall.integrations.hugging_face import TokenClassifier, map_entities

NO_MODELS = [None, 5, b"base", ["base"], object]
WRONG = [
    ({"threshold": 2}, "from 0 to 1"),
    ({"labels": ["person"]}, "did you mean 'PER'"),
    ({"labels": 5}, "list of labels"),
    ({"language": "EN"}, "did you mean 'en'"),
    ({"languages": "en"}, "did you mean language"),
]


@pytest.mark.parametrize("model", NO_MODELS)
def test_what_is_no_model(model: Any) -> None:
    makers: list[Any] = [TokenClassifier, EntityPredictor, map_entities]
    try:
        from retrieveall.integrations.spacy import EntityComponent

        makers.append(EntityComponent)
    except ImportError:
        pass
    for make in makers:
        with pytest.raises(InputError, match="expected a model, or the name or folder of one, got"):
            make(model)


def test_a_path_is_opened(names: KnownNames, tmp_path: Path) -> None:
    assert TokenClassifier(tmp_path).model is names  # type: ignore[comparison-overlap]


def test_options_of_opening_with_an_opened_model(names: KnownNames) -> None:
    with pytest.raises(InputError, match="expected device with the name of a model, got an opened one"):
        TokenClassifier(names, device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_options_are_checked_before_the_first_text(names: KnownNames, options: dict[str, Any], said: str) -> None:
    classify = TokenClassifier(names)  # type: ignore[arg-type]
    for inputs in ("Ada", ["Ada"], iter(["Ada"]), iter([])):
        with pytest.raises(InputError, match=said):
            classify(inputs, **options)
    with pytest.raises(InputError, match=said):
        map_entities(names, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("inputs", [5, None, b"Ada", [None], [float("nan")], {"text": "Ada"}])
def test_what_are_no_texts(names: KnownNames, inputs: Any) -> None:
    with pytest.raises(InputError, match="expected a text"):
        TokenClassifier(names)(inputs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a text"):
        EntityPredictor(names).batch_predict_entities(inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [5, b"person", [5], [None]])
def test_what_are_no_gliner_labels(names: KnownNames, labels: Any) -> None:
    with pytest.raises(InputError, match="labels"):
        EntityPredictor(names).predict_entities("Ada", labels)  # type: ignore[arg-type]
    assert EntityPredictor(names).predict_entities("Ada Lovelace", "person")[0]["label"] == "person"  # type: ignore[arg-type]
