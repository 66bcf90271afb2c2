"""The examples and the table of ``docs/corpora.md`` are what the library does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retrieveall.data import read_corpus
from retrieveall.data.formats import FORMATS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text("utf-8")
BLOCK = re.compile(r"```(?:json|csv|text)\n(.*?)```", re.DOTALL)
WRITTEN = [format.name for format in FORMATS if format.name != "text"]


def section(name: str) -> str:
    return re.split(r"\n##+ ", DOCUMENT.split(f"### {name}\n")[1])[0]


def test_the_table_lists_every_format() -> None:
    rows = [line.split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| `")]
    listed = {row[0].strip("| `"): (row[1], tuple(re.findall(r"`(\.\w+)`", row[3]))) for row in rows if len(row) == 4}
    assert listed == {format.name: (format.title, format.endings) for format in FORMATS if format.name != "text"}


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "docbin"])
def test_the_example_of_a_format_is_read_as_it(tmp_path: Path, name: str) -> None:
    blocks = BLOCK.findall(section(name))
    for ending, block in zip((".txt", ".ann"), blocks, strict=False):
        (tmp_path / f"x{ending}").write_text(block.removesuffix("\n"), encoding="utf-8")
    corpus = read_corpus(tmp_path / "x.txt")
    [sentence] = corpus
    assert corpus.format.name == name
    assert [(each.text, each.label) for each in sentence.entities] == [("Ada", "PER"), ("Berlin", "LOC")]


def test_the_help_of_convert_names_every_format_that_is_written() -> None:
    from retrieveall.cli.convert import convert

    listed = (convert.__doc__ or "").split("The formats: ")[1].split(".")[0]
    assert sorted(re.findall(r"[\w-]+", listed)) == sorted(WRITTEN)
