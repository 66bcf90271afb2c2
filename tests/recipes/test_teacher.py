"""Plain text labelled by a teacher: what is kept of it, and that a run that was stopped goes on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from recipes.corpora import Lines
from recipes.mini import teacher as module
from recipes.mini.sentences import read_sentences
from recipes.mini.settings import TeacherSettings
from recipes.mini.teacher import Teacher, label_plain_text, select
from retrieveall import RetrieveAll
from retrieveall.errors import ModelFolderError
from retrieveall.types import Entity, Sentence

LANGUAGES = ("de", "en", "ja")  # the tiny model has no Japanese
SETTINGS = TeacherSettings(sentences=10, least=0.0, seed=13)


class Killed(BaseException):
    """Nothing in between catches it."""


@pytest.fixture
def text(small_corpora: tuple[Path, Path]) -> Lines:
    return Lines(small_corpora[1], LANGUAGES)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jsonl")}


def sentence(number: int, *scores: float) -> Sentence:
    names = tuple(Entity(i, i + 1, "PER", "x", score) for i, score in enumerate(scores))
    return Sentence("x" * 9, names, "en", str(number))


def test_a_sentence_is_kept_where_the_teacher_is_sure_of_every_name() -> None:
    found = [sentence(0, 0.9, 0.7), sentence(1, 0.9, 0.69), sentence(2, 0.1), sentence(3, 1.0)]
    assert [each.id for each in select(found, 0.7, random.Random(0))] == ["0", "3"]


@pytest.mark.parametrize("sure", [0, 100, 300, 400])
def test_sentences_without_names_stay_in_proportion(sure: int) -> None:
    named = [sentence(i, 0.9 if i < sure else 0.1) for i in range(400)]
    kept = select([*named, *(sentence(1000 + i) for i in range(800))], 0.5, random.Random(0))
    without = sum(not each.entities for each in kept)
    assert len(kept) - without == sure
    assert abs(without - 2 * sure) < 60


def test_a_run_that_was_stopped_goes_on(
    tiny_model: Path, text: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    calls: list[list[str]] = []
    predict = RetrieveAll.predict

    def counted(self: RetrieveAll, texts: Any, **options: Any) -> Any:
        calls.append(list(texts))
        if len(calls) == 5:
            raise Killed
        return predict(self, texts, **options)

    monkeypatch.setattr(RetrieveAll, "predict", counted)
    stopped.mkdir()
    with pytest.raises(Killed):
        label_plain_text(stopped, SETTINGS, Teacher(str(tiny_model)), text)
    with (stopped / "read" / "en.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "torn')
    label_plain_text(stopped, SETTINGS, Teacher(str(tiny_model)), text)
    again = sum(map(len, calls)) - 4  # the batch in which it was killed
    whole.mkdir()
    label_plain_text(whole, SETTINGS, Teacher(str(tiny_model)), text)
    assert again == 30
    assert files(whole) == files(stopped)
    for language in LANGUAGES:
        found = read_sentences(whole / f"{language}.jsonl")
        assert len({each.text for each in found}) == len(found) == 10
        assert all(each.text[name.start : name.end] == name.text for each in found for name in each.entities)


def test_the_key_is_of_the_teachers_files(tiny_model: Path, model_copy: Path) -> None:
    assert Teacher(str(tiny_model)).key == Teacher(str(model_copy)).key
    manifest = model_copy / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert Teacher(str(tiny_model)).key != Teacher(str(model_copy)).key


def test_a_teacher_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelFolderError, match="no-such-teacher"):
        _ = Teacher("no-such-teacher").key
