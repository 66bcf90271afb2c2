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

from retrieveall.cli.render.separated import AROUND, LONG
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


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_columns_of_the_input_that_are_named_as_those_of_the_result_are_kept(
    run: Run, fake: FakeModel, tmp_path: Path, suffix: str
) -> None:
    names = ["row", "text", "language", "start", "end", "label", "entity", "score"]
    others = {name: f"my {name}" for name in [*names, "input_text", "input_text_2"]}
    source = write(tmp_path / "in.csv", [{"review": "Ada in London", **others}, {"review": "x", **others}])
    target = tmp_path / f"out{suffix}"
    result = run("extract", "-i", source, "--text-column", "review", "-o", target)
    rows = read(target)
    assert len(rows) == 3
    kept = ["input_row", "input_text_3", *(f"input_{name}" for name in names[2:])]
    assert list(rows[0]) == ["row", *kept, "input_text", "input_text_2", *names[1:]]
    for row in rows:
        assert [row[name] for name in kept] == [f"my {name}" for name in names]
        assert (row["input_text"], row["input_text_2"]) == ("my input_text", "my input_text_2")
    assert [(row["row"], row["text"], row["entity"]) for row in rows] == [
        ("1", "Ada in London", "Ada"),
        ("1", "Ada in London", "London"),
        ("2", "x", ""),
    ]
    [said] = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert "row as input_row, text as input_text_3, language as input_language" in said
    result = run("extract", "-i", source, "--text-column", "review", "-o", tmp_path / "out.jsonl")
    found = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (found["text"], found["label"], "input_text_3" in found) == ("Ada in London", "my label", False)
    assert "note: " not in result.stderr


def test_a_row_has_the_part_of_a_long_text_around_its_entity(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    long = "Ada " + "and so on " * 500 + "in London, " * 200
    texts = ["Ada " + "x" * (LONG - 4), long, "y" * (LONG + 1)]
    source = write(tmp_path / "in.jsonl", [{"text": text, "note": "z" * 5000} for text in texts])
    for name in ("out.csv", "out.tsv"):
        result = run("extract", "-i", source, "-o", tmp_path / name)
        rows = read(tmp_path / name)
        assert len(rows) == 1 + 201 + 1
        assert rows[0]["text"] == texts[0], "as it is up to the limit"
        assert rows[1]["text"] == long[: 3 + AROUND] + "…"
        first = int(rows[2]["start"])
        assert rows[2]["text"] == f"…{long[first - AROUND : first + 6 + AROUND]}…"
        assert rows[-1]["text"] == "y" * LONG + "…"
        assert [len(row["note"]) for row in rows[1:4]] == [5000, LONG + 1, LONG + 1]
        assert f"2 texts are longer than {LONG:,} characters" in result.stderr
    (tmp_path / "out.jsonl").unlink(missing_ok=True)
    run("extract", "-i", source, "-o", tmp_path / "out.jsonl")
    assert [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").open()] == texts


ODD = {"text": "Ada", "x": float("nan"), "deep": {"y": [1.5, float("-inf")]}, "raw": b"\xff\x00", "raws": [b"a", None]}


def test_values_that_json_lacks_are_written_so_that_it_is_valid(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", [ODD, ODD])
    result = run("extract", "-i", source, "-o", tmp_path / "out.jsonl")
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        found = json.loads(line, parse_constant=pytest.fail)
        assert (found["x"], found["deep"], found["raw"], found["raws"]) == (
            None,
            {"y": [1.5, None]},
            "/wA=",
            ["YQ==", None],
        )
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: 4 values of the input that are not a number or infinite are written as null in JSON, as an empty cell "
        "in a table",
        "note: 4 binary values of the input are in Base64",
    ]
    result = run("extract", "-i", source, "-o", tmp_path / "out.csv")
    row = read(tmp_path / "out.csv")[0]
    assert (row["x"], row["deep"], row["raw"], row["raws"]) == ("", '{"y": [1.5, null]}', "/wA=", '["YQ==", null]')
    assert [line for line in result.stderr.splitlines() if line.startswith("note: ")] == notes


def test_a_number_that_is_none_in_json_lines_is_null(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "Ada", "x": NaN, "y": -Infinity, "half": "\\ud800"}\n')
    result = run("extract", "-i", tmp_path / "in.jsonl")
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (found["x"], found["y"], found["half"]) == (None, None, "\ud800")
    assert "note: 2 values of the input that are not a number" in result.stderr


def test_a_json_file_is_an_array_of_records_lines_or_one(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    records = [{"review": "Ada", "id": 1}, {"review": "x", "id": 2}]
    for indent in (None, 1):
        for content in (json.dumps(records, indent=indent), "\n".join(map(json.dumps, records))):
            (tmp_path / "in.json").write_text(content)
            result = run("extract", "-i", tmp_path / "in.json", "--text-column", "review")
            found = [json.loads(line) for line in result.stdout.splitlines()]
            assert [(each["text"], each["id"], len(each["entities"])) for each in found] == [("Ada", 1, 1), ("x", 2, 0)]
    (tmp_path / "in.json").write_text(json.dumps(records[0] | {"text": "Ada"}, indent=1))
    assert "1 text, 1 entity" in run("extract", "-i", tmp_path / "in.json").stderr
    (tmp_path / "in.json").write_text('[{"text": "x"},\n "Ada"]')
    one_error(run("extract", "-i", tmp_path / "in.json"), "in.json:2", "a JSON object", "str")


@pytest.mark.parametrize("content", ['[{"text": "Ada"}]', '[\n {"text": "Ada"}\n]', '{\n "text": "Ada"\n}'])
def test_json_that_is_no_lines_is_refused_where_it_would_be_text(
    run: Run, fake: FakeModel, tmp_path: Path, content: str
) -> None:
    (tmp_path / "in.log").write_text(content)
    one_error(run("extract", "-i", tmp_path / "in.log"), "in.log:1", "ends in .json", "--input-format text")
    one_error(run("extract", input=content), "<stdin>:1", "ends in .json")
    assert run("extract", "--input-format", "text", input=content).exit_code == 0
    assert run("extract", input="[1] Ada\n[\n").exit_code == 0


def test_texts_without_words_are_counted_where_the_output_has_no_place_for_them(
    run: Run, fake: FakeModel, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.csv", [{"text": "Ada"}, {"text": ""}, {"text": " "}])
    for name in ("out.conll", "out.html"):
        assert (
            "note: 2 texts without words are not in the output"
            in run("extract", "-i", source, "-o", tmp_path / name).stderr
        )
    assert "without words" not in run("extract", "-i", source, "-o", tmp_path / "out.jsonl").stderr


def test_an_empty_table_is_a_header(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,id\n")
    assert run("extract", "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv").exit_code == 0
    assert read(tmp_path / "out.csv") == []
    assert "row,text" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("name", "content", "arguments", "parts"),
    [
        ("a.csv", "id,Text\n1,x\n", [], ("'text'", "'id', 'Text'", "did you mean 'Text'?", "--text-column")),
        ("a.csv", "text|id\nx|1\n", [], ("a.csv:1", "separated by a comma, a semicolon or a tab", "got '|'")),
        ("a.tsv", "id,text\n1,x\n", [], ("a.tsv:1", "(.tsv: tabs)", "got ','")),
        ("a.json", '["Ada"]', [], ("a.json:1", "a JSON object", "str")),
        ("a.json", "[]", [], ("a.json", "with the key 'text'", "got none")),
        ("a.json", '[{"n": 1}]', [], ("a.json:1", "a column 'text'", "'n'")),
        ("a.json", "Ada in London", [], ("a.json:1", "invalid JSON")),
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


def test_a_finished_run_is_not_done_again(run: Run, stop: Callable[[int], FakeModel], tmp_path: Path) -> None:
    """Unless input, options or output have changed since."""
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    command = ["extract", "-i", source, "-o", target, "--text-column", "review", "--resume"]

    def texts(*options: str) -> int:
        model = stop(99)
        result = run(*command, *options)
        assert result.exit_code == 0, result.stderr
        assert ("is complete" in result.stderr) == (not model.batches)
        assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.jsonl"}, "nothing stays"
        return sum(model.batches)

    count = texts()
    assert count > 0
    before = target.read_bytes()
    assert texts() == 0
    assert target.read_bytes() == before
    assert texts("--threshold", "0.5") == count
    assert texts() == count, "the output is that of another threshold"
    assert texts() == 0
    source.write_text(source.read_text() + "5,Ada,1\n")
    assert texts() == count + 1
    target.write_text("")
    assert texts() == count + 1
    target.unlink()
    assert texts() == count + 1


def test_a_finished_run_of_a_model_that_was_trained_again(
    run: Run, stop: Callable[[int], FakeModel], tmp_path: Path
) -> None:
    source, target, folder = write(tmp_path / "in.csv"), tmp_path / "out.jsonl", tmp_path / "model"
    folder.mkdir()
    command = ["extract", "-i", source, "-o", target, "--text-column", "review", "--resume", "--model", folder]
    for manifest, batches in (("one", 1), ("one", 0), ("two", 1)):
        (folder / "manifest.json").write_text(manifest)
        model = stop(99)
        run(*command)
        assert len(model.batches) == batches


def test_a_run_that_fails_before_anything_is_done_leaves_nothing(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    one_error(run("extract", "-i", source, "-o", target, "--text-column", "review", "--resume", "-l", "xx"), "xx")
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv"}


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
        words = result.stderr.replace("│", " ").split()  # the path is long, and lines of the box end anywhere
        assert "is the input" in " ".join(words)
    assert source.read_bytes() == before
