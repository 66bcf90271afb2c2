"""Labels that are tags, and what a folder or an array holds beside a corpus: refused with a line, or counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieveall.data import read_corpus, write_corpus
from retrieveall.errors import DataError, InputError
from retrieveall.types import Entity, Sentence

Write = Callable[[str, "str | object"], Path]
TEXT = {"text": "Ada in Rom"}
ADA = Sentence("Ada", (Entity(0, 3, "PER", "Ada"),))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def brat(write: Write, text: str, annotation: str) -> Path:
    write("c/a.txt", text)
    return write("c/a.ann", f"{annotation}\n").parent


@pytest.mark.parametrize("prefix", ["B-", "I-"])
def test_a_tag_is_no_label_in_any_format(write: Write, tmp_path: Path, prefix: str) -> None:
    label = f"{prefix}PER"
    span = {"start": 0, "end": 3, "label": label}
    for content in (
        TEXT | {"entities": [span]},
        TEXT | {"label": [[0, 3, label]]},
        TEXT | {"spans": [span]},
        [TEXT | {"ner": [{"start": 0, "end": 3, "text": "Ada", "labels": [label]}]}],
        {"tokenized_text": ["Ada"], "ner": [[0, 0, label]]},
    ):
        with pytest.raises(DataError, match=f"x.json:1: expected the label of a whole entity, got '{label}'"):
            list(read_corpus(write("x.json", content)))
    with pytest.raises(DataError, match=r"a\.ann:1: expected the label of a whole entity"):
        list(read_corpus(brat(write, "Ada", f"T1\t{label} 0 3\tAda")))
    with pytest.raises(DataError, match="expected a tag such as"):
        list(read_corpus(write("x.conll", f"Ada\tB-PER\n\nBo\tB-{label}\n")))
    with pytest.raises(InputError, match="expected a tag such as"):
        write_corpus([Sentence("Ada", (Entity(0, 3, label, "Ada"),))], tmp_path / "y.conll")


def test_a_label_that_only_looks_like_a_tag_is_kept_and_counted(write: Write) -> None:
    corpus = read_corpus(write("x.jsonl", TEXT | {"label": [[0, 3, "E-MAIL"]]}))
    assert next(corpus).entities[0].label == "E-MAIL"
    assert [note.partition(" (")[0] for note in corpus.notes] == [
        "1 spans with the label 'E-MAIL', read as it is although it looks like a tag"
    ]


def test_other_corpora_in_a_folder_are_left_out_and_counted(write: Write, tmp_path: Path) -> None:
    folder = brat(write, "Ada", "T1\tPER 0 3\tAda")
    for name in ("annotation.conf", ".hidden.json", "README.md"):
        write(f"c/{name}", "x")
    write("c/a/b.jsonl", "x")
    write("c/b.tsv.gz", "x")
    corpus = read_corpus(folder)
    assert len(list(corpus)) == 1
    assert corpus.notes == [
        f"2 files left out, since the folder is read as BRAT; give them by name (first: {folder}/a/b.jsonl)"
    ]
    write_corpus([ADA], tmp_path / "tables.parquet")
    write("d/dataset_info.json", "{}")
    write("d/dev.jsonl", "x")
    (tmp_path / "tables.parquet").rename(tmp_path / "d" / "train.parquet")
    corpus = read_corpus(tmp_path / "d")
    assert len(list(corpus)) == 1
    assert corpus.notes == [
        f"1 files left out, since the folder is read as tables; give them by name (first: {tmp_path}/d/dev.jsonl)"
    ]


def test_an_element_of_an_array_that_is_no_object_is_not_passed_over(write: Write) -> None:
    path = write("x.json", '[{"text": "Ada", "label": [[0, 3, "PER"]]},\n"Bo"]')
    with pytest.raises(DataError, match=r"x\.json:2: expected a JSON object .* got a string"):
        list(read_corpus(path))
