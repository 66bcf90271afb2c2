"""``validate`` and ``index`` on small corpora."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fakes import one_error
from typer.testing import Result

from retrieveall.cli.corpora import find_language
from retrieveall.errors import DataError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.storage import Manifest

Run = Callable[..., Result]

ADA = "Ada\tB-PER\nspoke\tO\n\n"
ROME = "Rome\tB-LOC\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """de with train and test, which overlap; en with train only."""
    for name, text in {"de/train": ADA + ROME, "de/test": ADA, "en/train": "I\tO\n\n" + ROME * 2}.items():
        file = tmp_path / "corpus" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "corpus"


def test_a_sound_corpus(run: Run, root: Path) -> None:
    result = run("validate", root)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    #       format, sentences, words, without entity, ill-formed, duplicates, cut words, entities
    form = ["CoNLL", "columns"]
    assert ["de", "train", *form, "2", "3", "0", "0", "0", "0", "LOC", "1,", "PER", "1"] in rows
    assert ["en", "train", *form, "3", "3", "1", "0", "1", "0", "LOC", "2"] in rows
    assert ["overlap:", "1", "sentences", "of", "de", "test", "also", "occur", "in", "train"] in rows
    assert rows[-1] == ["no", "errors"]


def test_problems_name_file_and_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.tsv"
    file.write_text("Ada\tB-PER\nLovelace\tI-LOC\n\na\tb\tc\n\nx\tB-FOO\n")
    result = run("validate", file, "--labels", "PER,LOC")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith(f"error: {file}:4: expected 2 columns") for line in lines)
    assert any(line.startswith(f"error: {file}:6: ") and "'FOO'" in line for line in lines)
    assert any(line.startswith(f"warning: {file}:2: ") for line in lines)
    assert lines[-1] == "errors found"
    first_warning = next(i for i, line in enumerate(lines) if line.startswith("warning"))
    assert not any(line.startswith("error: ") for line in lines[first_warning:])


def test_many_problems_are_counted(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.tsv"
    file.write_text("a b c\n" * 50 + "x\tO\n")
    lines = run("validate", file, "--problems", "2").stdout.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 3
    assert f"error: {file}: 48 more of the kind 'unreadable'" in lines


def test_files_are_compared_with_each_other(run: Run, root: Path) -> None:
    train, test = root / "de" / "train.tsv", root / "de" / "test.tsv"
    result = run("validate", train, test)
    assert result.exit_code == 0
    assert f"overlap: 1 sentences of {test} also occur in {train}" in result.stdout.splitlines()


def test_bad_paths(run: Run, root: Path, tmp_path: Path) -> None:
    missing = run("validate", tmp_path / "no.tsv")
    assert missing.exit_code == 1
    assert missing.stdout.startswith(f"error: {tmp_path / 'no.tsv'}: expected a file, found none")
    half = run("validate", root / "de" / "train.tsv", tmp_path / "no.tsv").stdout.splitlines()
    assert [line.split()[0] for line in half[:2]] == ["corpus", str(root / "de" / "train.tsv")]
    assert half[2:4] == ["", f"error: {tmp_path / 'no.tsv'}: expected a file, found none; check the path"]
    (tmp_path / "empty").mkdir()
    one_error(run("validate", tmp_path / "empty"), "expected folders such as de/")
    one_error(run("validate", root, "--language", "fr"), "check the language")
    one_error(run("validate", root / "de" / "train.tsv", "--language", "../x"), "language identifier")
    assert run("validate", root, root).exit_code == 2
    assert run("validate", root / "de" / "test.tsv", root / "de" / "test.tsv").exit_code == 2
    assert run("validate").exit_code == 2


def test_the_splits_of_a_folder_are_checked(run: Run, root: Path) -> None:
    rows = [line.split()[:1] for line in run("validate", root / "de").stdout.splitlines()]
    assert [row for row in rows if row in (["train"], ["test"])] == [["train"], ["test"]]


DOCCANO = {"id": 1, "text": "Ada wohnt in Berlin.", "label": [[0, 4, "PER"], [13, 19, "LOC"]]}


def test_convert_names_both_formats_and_what_was_repaired(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "export.json", tmp_path / "train.conll"
    source.write_text(json.dumps([DOCCANO]))
    result = run("convert", source, target)
    assert result.exit_code == 0
    assert result.stdout == f"1 sentences from doccano JSONL to CoNLL columns: {target}\n"
    assert "note: 1 spans cut to their text, without the blanks at the edges" in result.stderr
    assert target.read_text().split("\n")[0] == "Ada\tB-PER"
    assert run("convert", target, tmp_path / "brat", "--to", "brat", "--language", "de").exit_code == 0
    back = run("validate", tmp_path / "brat").stdout
    assert "BRAT text and annotation files" in back
    assert "LOC 1, PER 1" in back


def test_convert_refuses_what_it_does_not_know_before_it_writes(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "export.json"
    source.write_text(json.dumps([DOCCANO]))
    one_error(run("convert", source, tmp_path / "x.xlsx"), "expected a file ending that stands for a format")
    one_error(run("convert", source, tmp_path / "x", "--to", "xml"), "expected a format out of doccano")
    one_error(run("convert", source, tmp_path / "x.conll", "--from", "xml"), "expected a format out of doccano")
    one_error(run("convert", tmp_path / "none", tmp_path / "x.conll"), "found none")
    assert run("convert", source, source, "--to", "prodigy").exit_code == 2
    assert run("convert", source, tmp_path / "x.conll", "--scheme", "x").exit_code == 2
    assert list(tmp_path.iterdir()) == [source]


def test_an_export_is_checked_and_indexed_and_its_format_named(run: Run, tmp_path: Path) -> None:
    for language in ("de", "nl"):
        (tmp_path / "corpus" / language).mkdir(parents=True)
        (tmp_path / "corpus" / language / "train.json").write_text(json.dumps([DOCCANO]))
    checked = run("validate", tmp_path / "corpus").stdout
    assert "doccano JSONL" in checked
    assert "note: " in checked
    result = run("index", tmp_path / "corpus", "--out", tmp_path / "knowledge")
    assert result.exit_code == 0
    assert f"read {tmp_path}/corpus/de/train.json as doccano JSONL" in result.stderr
    assert sum("spans cut to their text" in line for line in result.stderr.splitlines()) == 2


def test_a_corpus_without_entities_is_a_warning(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_text("a\tO\n")
    result = run("validate", file)
    assert result.exit_code == 0
    assert f"warning: {file}: no entity in 1 sentences, read as CoNLL columns" in result.stdout.splitlines()


def test_a_folder_of_brat_files_is_the_training_data_of_a_language(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ada")
    (tmp_path / "a.ann").write_text("T1\tPER 0 3\tAda\n")
    assert find_language(str(tmp_path), "nl") == {"train": tmp_path}


def test_index_and_replace_it(run: Run, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    out = tmp_path / "knowledge"
    result = run("index", root, "--out", out)
    assert result.exit_code == 0, result.output
    assert "indexed 5 sentences of 2 languages" in result.stdout
    base = KnowledgeBase.open(out)
    assert {language: list(base.sentences(language).texts) for language in base.languages} == {
        "de": ["Ada spoke", "Rome"],
        "en": ["I", "Rome", "Rome"],
    }
    assert run("index", root, "--out", out, "--languages", "en").exit_code == 0
    assert KnowledgeBase.open(out).languages == ("en",)
    assert {path.name for path in out.iterdir()} == {"en", "encoder", "manifest.json"}
    Manifest.load(out).verify()


def test_index_leaves_other_folders_alone(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    one_error(run("index", root, "--out", tmp_path / "mine"), "choose another")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_index_without_training_sentences(run: Run, root: Path, tmp_path: Path) -> None:
    one_error(run("index", tmp_path / "no", "--out", tmp_path / "k"), "check the path")
    one_error(run("index", root, "--out", tmp_path / "k", "--languages", "en,fr"), "fr", "check the language")
    (root / "en" / "train.tsv").write_bytes(b"\xff\tO\n")
    one_error(run("index", root, "--out", tmp_path / "k"), "train.tsv:1", "UTF-8")
    assert not (tmp_path / "k").exists()


def test_the_folder_of_one_language_may_have_any_name(root: Path) -> None:
    """It is named by a person; the language's name comes with it."""
    folder = (root / "de").rename(root / "my data.v2")
    assert find_language(str(folder), "de") == {"train": folder / "train.tsv", "test": folder / "test.tsv"}
    assert find_language(str(root), "en") == {"train": root / "en" / "train.tsv"}
    (folder / "train.tsv").unlink()
    with pytest.raises(DataError, match=r"my data\.v2: expected a file for train"):
        find_language(str(folder), "de")


def test_sentences_that_a_format_has_no_place_for_are_counted(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "brat"
    folder.mkdir()
    for name, text, annotation in (("a", "Ada", "T1\tPER 0 3\tAda\n"), ("b", " \n", "")):
        (folder / f"{name}.txt").write_text(text)
        (folder / f"{name}.ann").write_text(annotation)
    result = run("convert", folder, tmp_path / "out.conll")
    assert result.exit_code == 0, result.output
    assert "note: 1 sentences without words left out, for which CoNLL columns has no place" in result.stderr
