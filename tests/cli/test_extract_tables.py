"""``retrieveall extract`` over the column of a table, into a table, and over several runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from cli_fakes import FakeModel, one_error
from pyarrow import parquet
from typer.testing import Result

from retrieveall.types import Prediction

Run = Callable[..., Result]
ROWS = [
    {"id": "1", "review": "Ada in London, early", "stars": "5"},
    {"id": "2", "review": "", "stars": "1"},
    {"id": "3", "review": 'two\nlines and "quotes" in 北京', "stars": "3"},
    {"id": "4", "review": "nothing", "stars": "2"},
]


def write(file: Path, rows: Sequence[dict[str, Any]] = ROWS, separator: str = ",") -> Path:
    """The rows in the format of the file's ending."""
    if file.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0], delimiter="\t" if file.suffix == ".tsv" else separator)
            writer.writeheader()
            writer.writerows(rows)
    return file


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_a_column_of_a_table_with_the_others_carried_through(
    run: Run, fake: FakeModel, tmp_path: Path, suffix: str
) -> None:
    result = run("extract", "-i", write(tmp_path / f"in{suffix}"), "--text-column", "review")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(each["id"], each["text"], each["stars"]) for each in found] == [tuple(row.values()) for row in ROWS]
    assert [len(each["entities"]) for each in found] == [2, 0, 1, 0]
    assert "review" not in found[0]
    assert "4 texts, 3 entities" in result.stderr


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_of_csv_is_found(run: Run, fake: FakeModel, tmp_path: Path, separator: str) -> None:
    file = write(tmp_path / "in.csv", separator=separator)
    found = run("extract", "-i", file, "--text-column", "review").stdout.splitlines()
    assert [json.loads(line)["text"] for line in found] == [row["review"] for row in ROWS]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_has_a_row_per_entity_and_one_for_a_text_without(
    run: Run, fake: FakeModel, tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"out{suffix}"
    run("extract", "-i", write(tmp_path / "in.csv"), "--text-column", "review", "-o", target)
    rows = read(target)
    assert [row["row"] for row in rows] == ["1", "1", "2", "3", "4"]
    assert [row["id"] for row in rows] == ["1", "1", "2", "3", "4"]
    assert [row["entity"] for row in rows] == ["Ada", "London", "", "北京", ""]
    assert rows[3]["text"] == ROWS[2]["review"]
    for row in rows:
        if row["entity"]:
            assert row["text"][int(row["start"]) : int(row["end"])] == row["entity"]
    assert list(rows[0]) == ["row", "id", "stars", "text", "language", "start", "end", "label", "entity", "score"]


def test_values_of_every_kind_are_carried(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    rows = [{"text": "Ada", "n": 1.5, "none": None, "nan": float("nan"), "list": [1, 2], "half": "\ud800"}]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(rows[0]) + "\n" + json.dumps({"text": "x", "later": 1}) + "\n")
    result = run("extract", "-i", source, "-o", tmp_path / "out.csv")
    first = read(tmp_path / "out.csv")[0]
    assert (first["n"], first["none"], first["list"], first["half"]) == ("1.5", "", "[1, 2]", "?")
    assert "later" in result.stderr


def test_an_empty_table_is_a_header(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,id\n")
    assert run("extract", "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv").exit_code == 0
    assert read(tmp_path / "out.csv") == []
    assert "row,text" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("name", "content", "arguments", "parts"),
    [
        ("a.csv", "id,Text\n1,x\n", [], ("'text'", "'id', 'Text'", "did you mean 'Text'?", "--text-column")),
        ("a.csv", "id,text\n1\n", [], ("a.csv:2", "2 cells", "got 1", "quotes")),
        ("a.csv", "text,text\n1,2\n", [], ("one column 'text', got 2",)),
        ("a.jsonl", '{"text": "x"}\n', ["--text-column", "review"], ("a.jsonl:1", "'review'")),
        ("a.jsonl", '{"n": 3}\n', ["--text-column", "n"], ("expected text", "int")),
        ("a.jsonl", "[1]\n", ["--text-column", "n"], ("a JSON object", "list")),
        ("a.parquet", "no", [], ("cannot be read as Parquet",)),
        ("a.txt", "Ada\n", ["--text-column", "n"], ("a table for --text-column",)),
    ],
)
def test_bad_tables(
    run: Run, fake: FakeModel, tmp_path: Path, name: str, content: str, arguments: list[str], parts: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    one_error(run("extract", "-i", tmp_path / name, *arguments), *parts)
    assert not hasattr(fake, "opened")


def test_a_column_of_numbers_in_parquet(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [{"n": 1}])
    one_error(run("extract", "-i", file, "--text-column", "n"), "row 1", "expected text", "int")


class Stopped(FakeModel):
    """Interrupted in the batch of this number."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        if len(self.batches) == self.batch:
            raise KeyboardInterrupt
        return super().predict(texts, **options)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], FakeModel]:
    """``stop(n)``: a model that is interrupted in batch ``n``."""
    from retrieveall import RetrieveAll

    def stop(batch: int) -> FakeModel:
        model = Stopped(batch)
        monkeypatch.setattr(RetrieveAll, "from_pretrained", lambda name, **_: model)
        return model

    return stop


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".conll", ".html"])
def test_a_stopped_run_goes_on_and_every_text_has_one_result(
    run: Run, stop: Callable[[int], FakeModel], tmp_path: Path, suffix: str
) -> None:
    rows = [{"id": str(i), "text": f"Ada {i} London" if i % 3 else "nobody"} for i in range(20)]
    source, whole, target = write(tmp_path / "in.csv", rows), tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    stop(99)
    run("extract", "-i", source, "-o", whole)
    command = ["extract", "-i", source, "-o", target, "--batch-size", "3", "--resume"]
    for batch in (2, 0, 3):
        model = stop(batch)
        assert run(*command).exit_code == 130
        assert not target.exists()
    # A kill in the middle of a batch leaves more than was recorded.
    with (tmp_path / f"out{suffix}.part" / "results").open("a") as stream:
        stream.write("half a li")
    model = stop(99)
    result = run(*command)
    assert result.exit_code == 0, result.stderr
    assert "15 of them from the stopped run" in result.stderr
    assert model.batches == [3, 2]
    assert target.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", whole.name, target.name}


def test_other_options_are_refused_when_going_on(run: Run, stop: Callable[[int], FakeModel], tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    command = ["extract", "-i", source, "-o", target, "--batch-size", "1", "--resume", "--text-column"]
    stop(2)
    run(*command, "review")
    one_error(run(*command, "review", "--threshold", "0.5"), "the model's own then, 0.5 now", "out.jsonl.part")
    one_error(run(*command, "stars"), "text column", "review then, stars now")
    source.write_text(source.read_text() + "5,Ada,1\n")
    one_error(run(*command, "review"), "another input")


@pytest.mark.parametrize("arguments", [["Ada", "-o", "x.jsonl"], ["-i", "x.txt"], ["-i", "-", "-o", "x.jsonl"]])
def test_resume_needs_files(run: Run, fake: FakeModel, tmp_path: Path, arguments: list[str]) -> None:
    result = run("extract", "--resume", *arguments, input="Ada")
    assert result.exit_code in (1, 2)
    assert not hasattr(fake, "opened")


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_the_input_is_not_written_over(run: Run, tmp_path: Path, options: list[str]) -> None:
    source = write(tmp_path / "in.csv")
    before = source.read_bytes()
    (tmp_path / "link.csv").symlink_to(source)
    for target in (source, tmp_path / "link.csv"):
        result = run("extract", "-i", source, "-o", target, "--text-column", "review", *options)
        assert result.exit_code == 2
        assert "is the input" in " ".join(result.stderr.replace("│", " ").split())  # in a box, whose lines break
    assert source.read_bytes() == before
