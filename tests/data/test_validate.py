"""The report of a corpus, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.data import validate

TRAIN = "Bonn\tB-LOC\n\nin\tO\nKöln\tI-LOC\n\nBonn\tB-LOC\n\nnichts\tO\n\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "train.tsv").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "test.tsv").write_text("Bonn\tB-LOC\n\nneu\tB-X\n\n", encoding="utf-8")
    return tmp_path


def test_counts(corpus: Path) -> None:
    report = validate({"train": corpus / "train.tsv", "test": corpus / "test.tsv"})
    train = report.splits["train"]
    assert (train.sentences, train.words, train.entities, train.scheme) == (4, 5, {"LOC": 3}, "iob2")
    assert (train.ill_formed, train.duplicates, train.entity_free, train.misaligned) == (1, 1, 1, 0)
    assert report.overlaps == {("train", "test"): 1}
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("ill-formed tag", f"{corpus}/train.tsv:4"),
        ("duplicate text", f"{corpus}/train.tsv:6"),
    ]
    assert report.ok, "warnings leave a corpus usable"


def test_a_mistake_in_an_iob1_file_is_that_tag_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("Ada\tI-PER\n\nRom\tI-LOC\n\nBonn\tB-LOC\n\nUlm\tI-LOC\n\n", encoding="utf-8")
    report = validate({"x": path})
    assert (report.splits["x"].scheme, report.splits["x"].entities) == ("iob1", {"PER": 1, "LOC": 3})
    assert [str(problem) for problem in report.problems] == [f"{path}:5: the tag 'B-LOC' violates the scheme iob1"]


def test_overlap_counts_sentences_of_the_later_split(tmp_path: Path) -> None:
    for name, content in {"a": "x\tO\n\ny\tO\n", "b": "x\tO\n\nx\tO\n\nz\tO\n"}.items():
        (tmp_path / f"{name}.tsv").write_text(content, encoding="utf-8")
    paths = {"a": tmp_path / "a.tsv", "b": tmp_path / "b.tsv"}
    assert validate(paths).overlaps == {("a", "b"): 2}


def test_labels_that_are_not_allowed_are_errors(corpus: Path) -> None:
    report = validate({"test": corpus / "test.tsv"}, labels=["LOC"])
    assert not report.ok
    assert [str(problem) for problem in report.problems] == [
        f"{corpus}/test.tsv:3: expected a label out of LOC, got 'X'"
    ]


def test_reading_goes_on_after_unreadable_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a\tO\nb\tNN\tO\n\n\xff\tO\nc\tB-X\n\nd\t?\n\ne\tB-X\n")
    report = validate({"x": path})
    assert [problem.where for problem in report.problems] == [f"{path}:{line}" for line in (2, 4, 7)]
    assert {problem.kind for problem in report.problems} == {"unreadable"}
    assert report.splits["x"].sentences == 3
    assert report.splits["x"].entities == {"X": 2}
    assert not report.ok


def test_jsonl_lines_spans_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"text": "ab", "id": "1", "entities": [{"start": 0, "end": 1, "label": "X"}]}\n'
        '{"text": "ab", "id": "2", "entities": [{"start": 0, "end": 9, "label": "X"}]}\n'
        '{"text": "cd", "id": "1"}\n',
        encoding="utf-8",
    )
    report = validate({"x": path})
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("entity cuts a word", f"{path}:1"),
        ("unreadable", f"{path}:2"),
        ("duplicate id", f"{path}:3"),
    ]


@pytest.mark.parametrize("content", [None, b"", b"\n\n"], ids=["missing", "empty", "blank"])
def test_a_file_without_sentences_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.tsv"
    if content is not None:
        path.write_bytes(content)
    report = validate({"x": path})
    assert [problem.kind for problem in report.problems] == ["unreadable"]
    assert not report.ok


def test_many_problems_are_counted_and_some_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tI-X\n\n" * 500 + "b\tB-X\n", encoding="utf-8")
    report = validate({"x": path}, scheme="iob2")
    assert report.splits["x"].ill_formed == 500
    assert sum(problem.kind == "ill-formed tag" for problem in report.problems) == 20
