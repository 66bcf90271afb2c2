"""Formats that are no lines of text: folders of BRAT, DocBins of spaCy, tables of datasets."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from format_samples import EXACT_TEXTS, Write, found

from retrieveall.data import read_corpus, validate, write_corpus
from retrieveall.data.formats import by_name
from retrieveall.errors import DataError, InputError, MissingExtraError
from retrieveall.types import Entity, Sentence


def brat(write: Write, text: str, *lines: str) -> Path:
    write("c/a.txt", text)
    return write("c/a.ann", "".join(f"{line}\n" for line in lines)).parent


def test_brat_spans_in_parts(write: Write) -> None:
    text = "Nord- und Südkorea,\nNew\nYork."
    folder = brat(
        write, text, "T1\tLOC 0 5;13 18\tNord- korea", "T2\tLOC 20 23;24 28\tNew York", "R1\tx Arg1:T1 Arg2:T2",
        "#1\tAnnotatorNotes T1\tx",
    )  # fmt: skip
    corpus = read_corpus(folder)
    [only] = corpus
    assert [(each.text, each.label) for each in only.entities] == [
        ("Nord-", "LOC"),
        ("korea", "LOC"),
        ("New\nYork", "LOC"),
    ]
    assert [note.partition(" (")[0] for note in corpus.notes] == [
        "1 spans in several parts, read as one span for each part"
    ]
    assert found(folder / "a.txt") == found(folder / "a.ann") == found(folder)


def test_brat_errors_name_file_and_line(write: Write) -> None:
    folder = brat(write, "Ada", "T1\tPER 0 3\tAda", "T2\tPER 1 9\tx")
    with pytest.raises(DataError, match=r"a\.ann:2: expected 0 <= start < end <= 3.*in 'Ada'"):
        found(folder)
    write("c/a.ann", "T1 PER 0 3\n")
    with pytest.raises(DataError, match=r"a\.ann:1: expected T1<TAB>"):
        found(folder)
    write("c/b.ann", "")
    assert len(validate({"c": folder}).problems) == 2, "the other texts are read all the same"


def test_a_brat_text_without_annotations_is_left_out_and_a_link_outside_refused(write: Write, tmp_path: Path) -> None:
    folder = brat(write, "Ada", "T1\tPER 0 3\tAda")
    write("c/b.txt", "never looked at")
    corpus = read_corpus(folder)
    assert len(list(corpus)) == 1
    assert corpus.notes == [f"1 texts left out without an annotation file (first: {folder / 'b.txt'})"]
    outside = write("outside.txt", "secret")
    (folder / "d.txt").symlink_to(outside)
    write("c/d.ann", "")
    with pytest.raises(DataError, match="link to outside"):
        found(folder)


def test_brat_is_written_into_a_new_folder_only(write: Write, tmp_path: Path) -> None:
    write("c/note", "mine")
    with pytest.raises(DataError, match="expected a new or empty folder"):
        by_name("brat").write(EXACT_TEXTS, tmp_path / "c")
    with pytest.raises(InputError, match="expected a folder for BRAT"):
        by_name("brat").write(EXACT_TEXTS, tmp_path / "c.txt")


def test_brat_keeps_a_byte_order_mark_that_is_text(tmp_path: Path) -> None:
    sentence = Sentence("\ufeffAda Bo", (Entity(1, 4, "PER", "Ada"),), "de")
    write_corpus([sentence], tmp_path / "brat", format="brat")
    (found,) = read_corpus(tmp_path / "brat", language="de")
    assert (found.text, found.entities) == (sentence.text, sentence.entities)


def test_a_docbin_of_spacy_is_read_without_spacy() -> None:
    """Made by spaCy 3.8: white space as tokens, labels and words that have numbers of their own, a text that nobody
    annotated, a text with span groups."""
    pytest.importorskip("msgpack")
    corpus = read_corpus(Path(__file__).parent / "files" / "de.spacy")
    assert [(each.text, [(e.start, e.end, e.label) for e in each.entities]) for each in corpus] == [
        ("Ada  Lovelace besuchte\n\nKöln 👩🏻‍🚀.", [(0, 13, "PERSON"), (24, 28, "GPE")]),
        ("case mark ORG Ort", [(10, 13, "ORG"), (14, 17, "Ort")]),
        ("Nichts.", []),
        ("東京。", [(0, 2, "LOC")]),
        ("Eine Gruppe.", []),
    ]
    assert [note.partition(" (")[0] for note in corpus.notes] == [
        "1 texts left out that nobody annotated",
        "1 texts with span groups, which are not read",
    ]


def test_spacy_reads_a_docbin_of_ours(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    tokens = pytest.importorskip("spacy.tokens")
    write_corpus(EXACT_TEXTS, tmp_path / "x.spacy")
    docs = tokens.DocBin().from_disk(tmp_path / "x.spacy").get_docs(spacy.blank("xx").vocab)
    assert [(doc.text, [(each.start_char, each.end_char, each.label_) for each in doc.ents]) for doc in docs] == [
        (each.text, [(e.start, e.end, e.label) for e in each.entities]) for each in EXACT_TEXTS
    ]


def test_numbers_of_strings_are_those_of_spacy() -> None:
    from retrieveall.data.formats.spacy_strings import string_id

    known = {"coffee": 3197928453018144401, "apple": 8566208034543834098, "PERSON": 380, "case": 8110129090154140942}
    assert {text: string_id(text) for text in known} == known
    assert string_id("") == 0


@pytest.mark.parametrize("content", [b"\x78\x9c damaged", zlib.compress(b"\xc1"), zlib.compress(b"\x81\xa5attrs\x90")])
def test_a_damaged_docbin_is_one_error(write: Write, content: bytes) -> None:
    pytest.importorskip("msgpack")
    with pytest.raises(DataError, match=r"x\.spacy: expected a spaCy DocBin") as caught:
        found(write("x.spacy", content))
    assert "\n" not in str(caught.value)


def test_without_msgpack_the_command_to_install_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[docbin\]'"):
        write_corpus(EXACT_TEXTS, tmp_path / "x.spacy")


def test_tables_need_no_package_and_name_their_tags(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    names = ["O", "B-LOC"]
    features = {"ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}}
    table = pa.table({"tokens": [["in", "Rom"], []], "ner_tags": [[0, 1], []]})
    for split in ("train", "test"):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table)
        (folder / "state.json").write_text("{}")
        (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    expected = [("in Rom", [("Rom", "LOC")])]
    assert found(tmp_path / "saved" / "train") == found(f"{tmp_path / 'saved'}?split=test") == expected
    with pytest.raises(DataError, match=r"expected the split of the data set, as in saved\?split=train \(test, train"):
        found(tmp_path / "saved")
    (tmp_path / "saved" / "train" / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="got the number 0; the data set must name them"):
        found(tmp_path / "saved" / "train")


def test_a_parquet_file_of_ours_has_its_class_names_for_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_corpus(EXACT_TEXTS[:1], tmp_path / "x.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "x.parquet"), split="train")
    names = rows.features["ner_tags"].feature.names
    assert [names[tag] for tag in rows[0]["ner_tags"]] == ["B-PER", "O", "O", "B-LOC", "O"]
