"""Adding a language to a model: no other file changes, and what is refused leaves the folder as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import CONFIG, digests, french

from retrieveall import RetrieveAll
from retrieveall.config import TrainingConfig
from retrieveall.errors import InputError, LanguageError
from retrieveall.types import Entity, Sentence


def test_add_language_leaves_every_other_file_as_it_was(model_copy: Path, tmp_path: Path) -> None:
    from retrieveall.training.run import LanguageData, add_language

    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    text = "Anna wohnt in Köln ."
    before, predicted = digests(model_copy), model.predict(text, language="de")[0].entities
    config = CONFIG.model_copy(update={"epochs": 20.0, "checkpoint_minutes": 10.0})
    scores = add_language(
        model_copy, "fr", LanguageData(french(24), french(4)), config, tmp_path / "run", device="cpu", show_bar=False
    )
    after = digests(model_copy)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json"} | {
        name for name in after if name.startswith(("adapters/fr/", "knowledge/fr/"))
    }
    assert set(before) <= set(after)
    assert scores.told is not None
    assert scores.told > 0.9, "24 sentences that differ in a number are learnt by heart"
    model.reload()
    assert "fr" in model.languages
    assert model.predict(text, language="de")[0].entities == predicted
    found = model.predict("Marie habite à Paris depuis 7 ans .", language="fr")[0].entities
    assert [(entity.text, entity.label) for entity in found] == [("Marie", "PER"), ("Paris", "LOC")]


def test_a_small_language_is_passed_over_more_often() -> None:
    from retrieveall.training.run import settings_for

    default = TrainingConfig()
    assert settings_for(default, 100_000) == default
    assert settings_for(default, 20_000) == default
    hundred, thousand = settings_for(default, 100), settings_for(default, 1000)
    assert hundred.epochs > thousand.epochs > default.epochs
    assert hundred.batch_size < thousand.batch_size == default.batch_size
    assert hundred.row_length is not None
    assert thousand.row_length is None
    assert settings_for(TrainingConfig(batch_size=4), 100).batch_size == 4
    assert settings_for(TrainingConfig(row_length=200), 100).row_length == 200
    own = TrainingConfig(epochs=3.0)
    assert settings_for(own, 100) == own
    assert settings_for(TrainingConfig(steps=5), 100) == TrainingConfig(steps=5)


@pytest.mark.parametrize(
    ("language", "sentences", "error", "message"),
    [
        ("de", french(2), LanguageError, "has the language 'de' already"),
        ("../x", french(2), LanguageError, "language identifier"),
        ("fr", [], InputError, "got none"),
        ("fr", [Sentence("Paris", (Entity(0, 5, "CITY", "Paris"),), "fr", "1")], InputError, "CITY"),
    ],
)
def test_a_refused_language_leaves_the_folder_as_it_was(
    model_copy: Path, tmp_path: Path, language: str, sentences: list[Sentence], error: type[Exception], message: str
) -> None:
    from retrieveall.training.run import LanguageData, add_language

    before = digests(model_copy)
    with pytest.raises(error, match=message):
        add_language(
            model_copy, language, LanguageData(sentences), CONFIG, tmp_path / "run", device="cpu", show_bar=False
        )
    assert digests(model_copy) == before
