"""Files and records of several JSON formats: entities are read or refused with a line, and never passed over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from retrieveall.data import read_corpus
from retrieveall.errors import DataError

SPAN = {"start": 0, "end": 3, "label": "PER"}
OFFSETS = {"id": 1, "start_offset": 0, "end_offset": 3, "label": "PER"}
VALUE = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
TOKENS = ["Ada", "in", "Rom"]
TEXT = {"text": "Ada in Rom"}
FORMS: dict[str, Any] = {
    "jsonl": TEXT | {"entities": [SPAN]},
    "doccano": TEXT | {"label": [[0, 3, "PER"]]},
    "doccano, labels": TEXT | {"labels": [[0, 3, "PER"]]},
    "doccano, data": {"data": TEXT["text"], "label": [[0, 3, "PER"]]},
    "relations": TEXT | {"entities": [OFFSETS], "relations": []},
    "prodigy": TEXT | {"spans": [SPAN], "answer": "accept"},
    "spacy": TEXT | {"entities": [[0, 3, "PER"]]},
    "spacy, ents": TEXT | {"ents": [SPAN]},
    "spacy, pair": [TEXT["text"], {"entities": [[0, 3, "PER"]]}],
    "spacy, annotator": {"classes": ["PER"], "annotations": [[TEXT["text"], {"entities": [[0, 3, "PER"]]}]]},
    "label studio": {"data": TEXT, "annotations": [{"result": [{"type": "labels", "value": VALUE}]}]},
    "label studio, old": {"data": TEXT, "completions": [{"result": [{"type": "labels", "value": VALUE}]}]},
    "label studio, flat": TEXT | {"ner": [VALUE]},
    "datasets": {"tokens": TOKENS, "ner_tags": ["B-PER", "O", "O"]},
    "gliner": {"tokenized_text": TOKENS, "ner": [[0, 0, "PER"]]},
    "another start": TEXT | {"mentions": [{"start_char": 0, "end_char": 3, "label": "PER"}]},
    "pipeline": TEXT | {"predicted": [{"entity_group": "PER", "start": 0, "end": 3, "score": 0.9}]},
}
EMPTY: dict[str, Any] = {"entities": [], "label": [], "labels": [], "spans": [], "ents": []}


def written(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def entities_or_error(path: Path) -> set[int] | str:
    """The numbers of entities of the sentences, or the error."""
    try:
        return {len(sentence.entities) for sentence in read_corpus(path)}
    except DataError as error:
        return str(error)


@pytest.mark.parametrize(("first", "second"), permutations(FORMS, 2))
def test_two_forms_in_one_file_are_read_or_one_line(tmp_path: Path, first: str, second: str) -> None:
    path = written(tmp_path / "x.jsonl", [FORMS[first], FORMS[second]])
    found = entities_or_error(path)
    assert found == {1} or str(found).startswith(f"{path}:"), "names the file and the line"
    assert "\n" not in str(found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("page", [300, 3000])
def test_another_form_after_the_first_page_is_one_line(tmp_path: Path, form: str, page: int) -> None:
    path = written(tmp_path / "x.jsonl", [FORMS["jsonl"]] * page + [FORMS[form]])
    found = entities_or_error(path)
    assert found == {1} or str(found).startswith(f"{path}:{page + 1}: expected ")


def test_the_line_names_both_keys_and_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", [FORMS["doccano"], FORMS["jsonl"]])
    with pytest.raises(DataError) as caught:
        list(read_corpus(path))
    assert str(caught.value) == (
        f'{path}:2: expected entities under "label" as in doccano JSONL, got them under "entities" as in JSONL of this '
        "library; split the file by format, and convert each part"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", EMPTY)
def test_an_empty_key_of_another_form_hides_no_entities(tmp_path: Path, form: str, key: str) -> None:
    record = FORMS[form]
    if not isinstance(record, dict) or key in record:
        return
    for both in ({key: []} | record, record | {key: []}):
        path = written(tmp_path / "x.jsonl", [both])
        found = entities_or_error(path)
        assert found == {1} or str(found).startswith(f"{path}:1: expected ")


def test_one_record_with_two_keys_names_them(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", [TEXT | {"label": [], "entities": [SPAN]}])
    with pytest.raises(DataError, match=r'x\.jsonl:1: expected entities under "label" .* under "entities" too; keep'):
        list(read_corpus(path))
    assert len(next(read_corpus(path, format="jsonl")).entities) == 1
    more = [TEXT | {"label": [[0, 3, "PER"]], "entities": [SPAN, SPAN | {"start": 7, "end": 10}]}]
    with pytest.raises(DataError, match='got them under "entities" too'):
        list(read_corpus(written(path, more)))


LEGITIMATE: dict[str, Any] = {
    "comments": FORMS["doccano"] | {"Comments": [], "id": 1},
    "written comments": FORMS["doccano"] | {"Comments": ["a [0, 3] comment"]},
    "the same entities again": FORMS["doccano"] | {"entities": [SPAN]},
    "a label of the text": FORMS["jsonl"] | {"label": "good"},
    "labels of the text": FORMS["jsonl"] | {"labels": ["good", "bad"]},
    "a number as label": FORMS["jsonl"] | {"labels": [1, 0]},
    "tokens": FORMS["prodigy"] | {"tokens": [{"text": "Ada", "start": 0, "end": 3, "id": 0, "ws": True}]},
    "relations": FORMS["prodigy"] | {"relations": [{"head": 0, "child": 1, "label": "x", "head_span": SPAN}]},
    "options": FORMS["prodigy"] | {"options": [{"id": "A", "text": "a"}], "accept": ["A"]},
    "tokens of spaCy": FORMS["spacy, ents"] | {"tokens": [{"id": 0, "start": 0, "end": 3, "tag": "NE"}]},
    "sentences and groups": FORMS["spacy, ents"] | {"sents": [{"start": 0, "end": 9}], "spans": {"sc": [SPAN]}},
    "classes": [[TEXT["text"], {"entities": [[0, 3, "PER"]], "cats": {"a": 1.0}}]],
    "predictions": FORMS["label studio"] | {"predictions": [{"result": [{"type": "labels", "value": VALUE}]}]},
    "tags beside spans": FORMS["prodigy"] | {"tokens": TOKENS, "ner_tags": ["B-PER", "O", "O"]},
    "parts of speech": FORMS["datasets"] | {"pos_tags": [5, 3, 5], "chunk_tags": [1, 2, 3]},
    "numbers of labels": FORMS["datasets"] | {"labels": [1, 0, 0]},
    "two kinds of regions": FORMS["label studio, flat"] | {"others": []},
    "boxes": FORMS["jsonl"] | {"boxes": [[0, 1, 2], [3, 4, 5]]},
}


@pytest.mark.parametrize("record", LEGITIMATE.values(), ids=LEGITIMATE)
def test_other_keys_that_hold_no_entities_are_allowed(tmp_path: Path, record: Any) -> None:
    [sentence] = read_corpus(written(tmp_path / "x.jsonl", [record]))
    assert [(entity.text, entity.label) for entity in sentence.entities] == [("Ada", "PER")]


def test_regions_under_several_names_are_all_read(tmp_path: Path) -> None:
    place = {"start": 7, "end": 10, "text": "Rom", "labels": ["LOC"]}
    [sentence] = read_corpus(written(tmp_path / "x.jsonl", [TEXT | {"ner": [VALUE], "places": [place]}]))
    assert [entity.text for entity in sentence.entities] == ["Ada", "Rom"]
