"""Plain text labelled by a larger model, the teacher, from which the small one learns what names look like in prose."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.corpora import Lines
from recipes.mini.plain_text import random_sentences
from recipes.mini.settings import TeacherSettings
from recipes.steps import digest
from retrieveall.data import write_jsonl
from retrieveall.model_folder import ModelFolder
from retrieveall.pipeline import RetrieveAll
from retrieveall.types import Entity, Prediction, Sentence

__all__ = ["Teacher", "label_plain_text", "select"]

_BATCH = 64


@dataclass(frozen=True)
class Teacher:
    """A model by name, folder or hub id, keyed by its files."""

    name: str

    @cached_property
    def folder(self) -> Path:
        return ModelFolder.open(self.name).path

    @cached_property
    def key(self) -> str:
        return digest((self.folder / "manifest.json").read_text(encoding="utf-8"))


def label_plain_text(folder: Path, settings: TeacherSettings, teacher: Teacher, text: Lines) -> None:
    """``LANGUAGE.jsonl``: sentences of plain text with the names that the teacher finds and is sure of.

    All that it found is in ``read/``, to which a run that was stopped goes on to add.
    """
    model = RetrieveAll.from_pretrained(teacher.folder, device="cpu", allow_no_adapters=True)
    read = folder / "read"
    read.mkdir(exist_ok=True)
    runs = [_label(read / f"{language}.jsonl", settings, model, text, language) for language in text.languages]
    while runs:  # in turn, so that a run that is stopped has about as much of each language
        runs = [run for run in runs if next(run, None) is not None]
    for language in text.languages:
        found = list(_read(read / f"{language}.jsonl", language))
        kept = select(found, settings.least, random.Random(f"{settings.seed} {language} kept"))
        write_jsonl(kept, folder / f"{language}.jsonl")
        names = sum(len(each.entities) for each in kept)
        print(f"{language}: {len(kept):,} of {len(found):,} sentences, {names:,} names", flush=True)


def select(found: Sequence[Sentence], least: float, rng: random.Random) -> list[Sentence]:
    """The sentences whose names all have a score of at least ``least``, and as large a share of those without names."""
    with_names = [each for each in found if each.entities]
    sure = {each.id for each in with_names if all((name.score or 0.0) >= least for name in each.entities)}
    share = len(sure) / len(with_names) if with_names else 1.0
    return [each for each in found if (each.id in sure if each.entities else rng.random() < share)]


def _label(path: Path, settings: TeacherSettings, model: RetrieveAll, text: Lines, language: str) -> Iterator[int]:
    """Append the teacher's answers to the next sentences, a batch each time, until there are enough."""
    done = _complete_lines(path)
    rng = random.Random(f"{settings.seed} {language}")
    candidates = islice(random_sentences(text, language, rng), done, settings.sentences)
    while batch := list(islice(candidates, _BATCH)):
        # Names below the model's own threshold tell that it is unsure.
        adapter = language if language in model.languages else None
        predictions = model.predict(batch, language=adapter, threshold=0.0)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(_record(each), ensure_ascii=False) + "\n" for each in predictions)
        done += len(batch)
        yield done


def _complete_lines(path: Path) -> int:
    """The number of lines in a file, from which a line without an end is cut off."""
    if not path.is_file():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    return whole.count(b"\n")


def _record(prediction: Prediction) -> dict[str, Any]:
    names = [[each.start, each.end, each.label, each.score] for each in prediction.entities]
    return {"text": prediction.text, "names": names}


def _read(path: Path, language: str) -> Iterator[Sentence]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1]):
        record = json.loads(line)
        names = tuple(Entity(a, b, label, record["text"][a:b], score) for a, b, label, score in record["names"])
        yield Sentence(record["text"], names, language, f"plain-text:{number}")
