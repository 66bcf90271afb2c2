from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieveall.errors import ModelFolderError
from retrieveall.knowledge.sentences import SentenceTable, text_key
from retrieveall.types import Entity, Sentence

SENTENCES = [
    Sentence("Hamburg ruft Köln", (Entity(0, 7, "LOC", "Hamburg"), Entity(13, 17, "LOC", "Köln")), "de", "a"),
    Sentence("👩‍👧 nichts", (), "de", ""),
    Sentence("HAMBURG  ruft\tKöln", (), "de", "b"),
    Sentence("", (), "de", ""),
]


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "sentences.parquet"
    SentenceTable.of(SENTENCES, "de").save(path)
    table = SentenceTable.open(path, "de")
    assert [table[row] for row in range(len(table))] == SENTENCES
    assert table.texts == [sentence.text for sentence in SENTENCES]


def test_no_sentences_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sentences.parquet"
    SentenceTable.of([], "de").save(path)
    table = SentenceTable.open(path, "de")
    assert len(table) == 0
    assert table.duplicates(SENTENCES[0]) == []


def test_duplicates_share_the_text_or_the_id() -> None:
    table = SentenceTable.of(SENTENCES, "de")
    assert table.duplicates(SENTENCES[0]) == [0, 2]
    assert table.duplicates(Sentence("anders", (), "de", "b")) == [2]
    assert table.duplicates(Sentence("anders", (), None, "b")) == [2]
    assert table.duplicates(Sentence("anders", (), "en", "b")) == []
    assert table.duplicates(Sentence("anders", (), "de", "")) == []
    assert table.duplicates(Sentence("Ｈamburg ruft Köln", (), "en", "")) == [0, 2]


def test_text_keys_ignore_spacing_case_and_width_only() -> None:
    assert text_key("( Chile )") == text_key("（chile）")
    assert text_key("Chile") != text_key("Chili")
    assert text_key("a\ud800") != text_key("a")


@pytest.mark.parametrize(
    ("starts", "ends", "labels"),
    [
        ([[0]], [[9]], [["LOC"]]),
        ([[-1]], [[2]], [["LOC"]]),
        ([[2]], [[2]], [["LOC"]]),
        ([[0, 1]], [[1]], [["LOC"]]),
        ([[0]], [[1]], [[None]]),
    ],
)
def test_damaged_spans_name_the_file(tmp_path: Path, starts: object, ends: object, labels: object) -> None:
    path = tmp_path / "sentences.parquet"
    SentenceTable.of([], "de").save(path)
    schema = pq.read_schema(path)
    arrays = [pa.array(v, f.type) for v, f in zip([["i"], ["Köln"], starts, ends, labels], schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)
    with pytest.raises(ModelFolderError, match=r"sentences\.parquet"):
        SentenceTable.open(path, "de")
